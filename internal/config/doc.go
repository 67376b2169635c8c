// Package config reads and writes a configuration as YAML, the form in which people keep it in a file. Every complaint about a
// file names line and column.
//
//	networks:
//	  prod:
//	    subnets: [10.1.0.0/24]
//	    ports:
//	      web:
//	        netns: web
//
// The keys are those of the API's requests. JSON is read too, for it is YAML.
package config
