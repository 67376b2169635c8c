package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) networks(r *http.Request) (any, error) {
	return list(s.backend.Networks(r.Context()))
}

func (s *Server) network(r *http.Request) (any, error) {
	return s.backend.Network(r.Context(), r.PathValue("name"))
}

func (s *Server) addNetwork(r *http.Request) (any, error) {
	var request api.NetworkRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	n, err := s.backend.AddNetwork(r.Context(), request)
	return created{"/v1/networks/" + n.Name, n}, err
}

func (s *Server) setNetwork(r *http.Request) (any, error) {
	var change api.NetworkChange
	if err := decode(r, &change); err != nil {
		return nil, err
	}
	return s.backend.SetNetwork(r.Context(), r.PathValue("name"), change)
}

func (s *Server) deleteNetwork(r *http.Request) (any, error) {
	force, err := boolean(r, "force", false)
	if err != nil {
		return nil, err
	}
	return nil, s.backend.DeleteNetwork(r.Context(), r.PathValue("name"), force)
}
