package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) listUplinks(r *http.Request) (any, error) {
	return list(s.backend.Uplinks(r.Context()))
}

func (s *Server) uplink(r *http.Request) (any, error) {
	return s.backend.Uplink(r.Context(), r.PathValue("name"))
}

func (s *Server) addUplink(r *http.Request) (any, error) {
	var request api.UplinkRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	u, err := s.backend.AddUplink(r.Context(), request)
	return created{"/v1/uplinks/" + u.Name, u}, err
}

func (s *Server) deleteUplink(r *http.Request) (any, error) {
	return nil, s.backend.DeleteUplink(r.Context(), r.PathValue("name"))
}
