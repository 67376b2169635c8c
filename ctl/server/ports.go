package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) ports(r *http.Request) (any, error) {
	return list(s.backend.Ports(r.Context()))
}

func (s *Server) port(r *http.Request) (any, error) {
	return s.backend.Port(r.Context(), r.PathValue("name"))
}

func (s *Server) addPort(r *http.Request) (any, error) {
	var request api.PortRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	p, err := s.backend.AddPort(r.Context(), request)
	return created{"/v1/ports/" + p.Name, p}, err
}

func (s *Server) deletePort(r *http.Request) (any, error) {
	return nil, s.backend.DeletePort(r.Context(), r.PathValue("name"))
}
