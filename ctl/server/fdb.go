package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) fdb(r *http.Request) (any, error) {
	return list(s.backend.FDB(r.Context(), r.URL.Query().Get("network")))
}

func (s *Server) addFDB(r *http.Request) (any, error) {
	var request api.FDBRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	return nil, s.backend.AddFDB(r.Context(), request)
}

// deleteFDB takes the entry from the body or, without one, from the query: many HTTP clients send no body with DELETE.
func (s *Server) deleteFDB(r *http.Request) (any, error) {
	var request api.FDBRequest
	if r.URL.RawQuery == "" {
		if err := decode(r, &request); err != nil {
			return nil, err
		}
		return nil, s.backend.DeleteFDB(r.Context(), request)
	}
	vlan, err := number(r, "vlan", 16)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	request = api.FDBRequest{Network: q.Get("network"), MAC: q.Get("mac"), VLAN: uint16(vlan)}
	return nil, s.backend.DeleteFDB(r.Context(), request)
}

func (s *Server) flushFDB(r *http.Request) (any, error) {
	n, err := s.backend.FlushFDB(r.Context(), r.URL.Query().Get("network"))
	return api.Flushed{Flushed: n}, err
}
