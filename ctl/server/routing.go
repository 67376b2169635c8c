package server

import (
	"net/http"
	"net/netip"

	"vswitch/internal/api"
)

func (s *Server) listRoutes(r *http.Request) (any, error) {
	return list(s.backend.Routes(r.Context(), r.URL.Query().Get("router")))
}

func (s *Server) addRoute(r *http.Request) (any, error) {
	var request api.RouteRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	e, err := s.backend.AddRoute(r.Context(), request)
	return created{"/v1/routes", e}, err
}

// deleteRoute takes the route from the body or, without one, from the query.
func (s *Server) deleteRoute(r *http.Request) (any, error) {
	var request api.RouteRequest
	if r.URL.RawQuery == "" {
		if err := decode(r, &request); err != nil {
			return nil, err
		}
		return nil, s.backend.DeleteRoute(r.Context(), request)
	}
	metric, err := number(r, "metric", 32)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	prefix, err := netip.ParsePrefix(q.Get("prefix"))
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "prefix %.70q: use ADDRESS/LENGTH", q.Get("prefix"))
	}
	request = api.RouteRequest{Router: q.Get("router"), Prefix: prefix, Metric: uint32(metric)}
	return nil, s.backend.DeleteRoute(r.Context(), request)
}

func (s *Server) neighbors(r *http.Request) (any, error) {
	return list(s.backend.Neighbors(r.Context(), r.URL.Query().Get("network")))
}

func (s *Server) flushNeighbors(r *http.Request) (any, error) {
	n, err := s.backend.FlushNeighbors(r.Context(), r.URL.Query().Get("network"))
	return api.Flushed{Flushed: n}, err
}
