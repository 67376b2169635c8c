// Package machine tells what the machine allows this process: memory and open files.
package machine
