package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// route is one method of one resource.
type route struct {
	method, path string
	doc          string
	looks        bool             // it changes nothing, although it is no GET
	query        []string         // names of parameters that it understands
	verb         verb             // answers with a value, or
	raw          http.HandlerFunc // writes its answer itself
	endless      bool             // goes on writing it
}

// verb handles a request: the value is written as JSON (a created one with status 201, nil as 204), the error as a problem document.
type verb func(r *http.Request) (any, error)

// created is the answer to a request that made something.
type created struct {
	location string
	value    any
}

// table lists every resource of the API.
func (s *Server) table() []route {
	return []route{
		{method: "GET", path: "/{$}", doc: "list the resources", verb: s.root},
		{method: "GET", path: "/v1/networks", doc: "list networks", verb: s.networks},
		{method: "POST", path: "/v1/networks", doc: "add a network", verb: s.addNetwork},
		{method: "GET", path: "/v1/networks/{name}", doc: "one network", verb: s.network},
		{method: "PATCH", path: "/v1/networks/{name}", doc: "change a network", verb: s.setNetwork},
		{method: "DELETE", path: "/v1/networks/{name}", doc: "delete a network", query: []string{"force"}, verb: s.deleteNetwork},
		{method: "GET", path: "/v1/ports", doc: "list ports", verb: s.ports},
		{method: "POST", path: "/v1/ports", doc: "add a port", verb: s.addPort},
		{method: "GET", path: "/v1/ports/{name}", doc: "one port", verb: s.port},
		{method: "PATCH", path: "/v1/ports/{name}", doc: "change a port", verb: s.setPort},
		{method: "POST", path: "/v1/ports/{name}/connect", doc: "put a port on a network", verb: s.connect},
		{method: "POST", path: "/v1/ports/{name}/disconnect", doc: "take a port off its network", verb: s.disconnect},
		{method: "DELETE", path: "/v1/ports/{name}", doc: "delete a port", verb: s.deletePort},
		{method: "GET", path: "/v1/fdb", doc: "list MAC tables", query: []string{"network"}, verb: s.fdb},
		{method: "POST", path: "/v1/fdb", doc: "add a static MAC entry", verb: s.addFDB},
		{method: "DELETE", path: "/v1/fdb", doc: "delete a MAC entry", query: []string{"network", "mac", "vlan"}, verb: s.deleteFDB},
		{method: "POST", path: "/v1/fdb/flush", doc: "forget learned MACs", query: []string{"network"}, verb: s.flushFDB},
		{method: "GET", path: "/v1/routes", doc: "list routes", query: []string{"router"}, verb: s.listRoutes},
		{method: "POST", path: "/v1/routes", doc: "add a static route", verb: s.addRoute},
		{method: "DELETE", path: "/v1/routes", doc: "delete a static route", query: []string{"router", "prefix", "metric"}, verb: s.deleteRoute},
		{method: "GET", path: "/v1/published", doc: "list published ports", query: []string{"port"}, verb: s.published},
		{method: "POST", path: "/v1/published", doc: "publish ports of a container", verb: s.publish},
		{method: "DELETE", path: "/v1/published", doc: "take published ports back", query: []string{"port", "publish"}, verb: s.unpublish},
		{method: "GET", path: "/v1/uplinks", doc: "list uplinks", verb: s.listUplinks},
		{method: "POST", path: "/v1/uplinks", doc: "add an uplink", verb: s.addUplink},
		{method: "GET", path: "/v1/uplinks/{name}", doc: "one uplink", verb: s.uplink},
		{method: "DELETE", path: "/v1/uplinks/{name}", doc: "delete an uplink", verb: s.deleteUplink},
		{method: "GET", path: "/v1/rules", doc: "list rules", query: []string{"on"}, verb: s.rules},
		{method: "POST", path: "/v1/rules", doc: "add a rule", verb: s.addRule},
		{method: "DELETE", path: "/v1/rules/{id}", doc: "take a rule away", verb: s.deleteRule},
		{method: "GET", path: "/v1/neighbors", doc: "list neighbors of the routers", query: []string{"network"}, verb: s.neighbors},
		{method: "POST", path: "/v1/neighbors/flush", doc: "forget neighbors", query: []string{"network"}, verb: s.flushNeighbors},
		{method: "GET", path: "/v1/connections", doc: "list connections", query: api.ConnectionKeys, verb: s.connections},
		{method: "POST", path: "/v1/connections/flush", doc: "end connections", query: api.ConnectionKeys, verb: s.flushConnections},
		{method: "POST", path: "/v1/transaction", doc: "carry out several verbs, all or none", verb: s.transact},
		{method: "GET", path: "/v1/config", doc: "the whole configuration, as JSON or YAML", raw: s.config},
		{method: "POST", path: "/v1/config", doc: "make the configuration be that of the body, JSON or YAML", query: []string{"dry_run", "no_delete"}, verb: s.apply},
		{method: "GET", path: "/v1/flows", doc: "list cached flows", query: []string{"port"}, verb: s.flows},
		{method: "POST", path: "/v1/flows/flush", doc: "forget cached flows", verb: s.flushFlows},
		{method: "POST", path: "/v1/trace", doc: "what would happen to a frame", looks: true, verb: s.trace},
		{method: "GET", path: "/v1/stats", doc: "counters of ports and workers", verb: s.stats},
		{method: "GET", path: "/v1/drops", doc: "dropped frames by port and reason", verb: s.drops},
		{method: "GET", path: "/v1/events", doc: "server-sent events", query: []string{"since", "follow"}, raw: s.stream, endless: true},
		{method: "GET", path: "/v1/show", doc: "daemon, networks and ports at a glance", verb: s.show},
		{method: "GET", path: "/v1/version", doc: "the daemon and what it uses of the kernel", verb: s.daemon},
		{method: "GET", path: "/metrics", doc: "metrics for Prometheus", raw: s.metrics.serve},
	}
}

// resource is one path of the API with its methods.
type resource struct {
	Path    string            `json:"path"`
	Methods map[string]string `json:"methods"` // what each one does
}

// root answers / with the list of resources.
func (s *Server) root(*http.Request) (any, error) {
	var list []resource
	for _, r := range s.routes {
		path := strings.TrimSuffix(r.path, "{$}")
		i := slices.IndexFunc(list, func(l resource) bool { return l.Path == path })
		if i < 0 {
			i, list = len(list), append(list, resource{Path: path, Methods: map[string]string{}})
		}
		list[i].Methods[r.method] = r.doc
	}
	return struct {
		Version   string     `json:"version"`
		Resources []resource `json:"resources"`
	}{api.Version, list}, nil
}

// mux builds the handler that finds the resource of a request, and the method in it.
func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	byPath := map[string][]route{}
	for _, r := range s.routes {
		byPath[r.path] = append(byPath[r.path], r)
	}
	for path, routes := range byPath {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.choose(routes, w, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, api.Errorf(api.CodeNotFound, "no resource at %.200q: GET / lists them", r.URL.Path))
	})
	return mux
}

// choose runs the route of the request's method, or answers 405.
func (s *Server) choose(routes []route, w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, route := range routes {
		if r.Method == route.method || r.Method == http.MethodHead && route.method == http.MethodGet {
			s.run(route, w, r)
			return
		}
		allow = append(allow, route.method)
		if route.method == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	s.problem(w, r, api.Errorf(api.CodeMethod, "%.20q is not a method of %.200q: use %s", r.Method, r.URL.Path, strings.Join(allow, ", ")))
}

// run checks the query and calls the route.
func (s *Server) run(route route, w http.ResponseWriter, r *http.Request) {
	c := clientOf(r)
	if change := route.method != http.MethodGet && !route.looks; change && c.looksOnly() {
		s.problem(w, r, api.Errorf(api.CodeReadOnly, "this socket answers looks only: to %s, use the control socket", route.doc))
		return
	} else if a, ok := w.(*answer); ok && change {
		a.change = route.doc
	}
	if err := checkQuery(r, route.query); err != nil {
		s.problem(w, r, err)
		return
	}
	if route.endless {
		route.raw(w, r)
		return
	}
	done, err := s.look(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	defer done()
	if route.raw != nil {
		route.raw(w, r)
		return
	}
	var value any
	c.during(func() { value, err = route.verb(r) })
	if err != nil {
		s.problem(w, r, err)
		return
	}
	s.reply(w, r, value)
}

// look waits for its turn on the read-only socket, where few requests are answered at a time: those who may only look shall not
// keep the daemon busy, nor its memory full with answers that they don't take.
func (s *Server) look(r *http.Request) (done func(), err error) {
	if !clientOf(r).looksOnly() {
		return func() {}, nil
	}
	select {
	case s.looks <- struct{}{}:
		return func() { <-s.looks }, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// checkQuery refuses parameters that the route does not understand: a misspelt one must not be ignored.
func checkQuery(r *http.Request, known []string) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "the query of the path is malformed: %.200s", err)
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			return api.Errorf(api.CodeInvalid, "unknown query parameter %.100q: %s", name, knownQuery(known))
		}
		if len(v) > 1 {
			return api.Errorf(api.CodeInvalid, "query parameter %q is given %d times: give it once", name, len(v))
		}
	}
	return nil
}

func knownQuery(known []string) string {
	if len(known) == 0 {
		return "this path takes none"
	}
	return "this path takes " + strings.Join(known, ", ")
}
