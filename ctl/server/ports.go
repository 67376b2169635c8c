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

func (s *Server) setPort(r *http.Request) (any, error) {
	var change api.PortChange
	if err := decode(r, &change); err != nil {
		return nil, err
	}
	return s.backend.SetPort(r.Context(), r.PathValue("name"), change)
}

func (s *Server) connect(r *http.Request) (any, error) {
	var request api.ConnectRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	return s.backend.Connect(r.Context(), r.PathValue("name"), request)
}

func (s *Server) disconnect(r *http.Request) (any, error) {
	var request api.DisconnectRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	return s.backend.Disconnect(r.Context(), r.PathValue("name"), request)
}

func (s *Server) deletePort(r *http.Request) (any, error) {
	return nil, s.backend.DeletePort(r.Context(), r.PathValue("name"))
}
