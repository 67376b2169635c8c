package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) rules(r *http.Request) (any, error) {
	return list(s.backend.Rules(r.Context(), r.URL.Query().Get("on")))
}

func (s *Server) addRule(r *http.Request) (any, error) {
	var request api.RuleRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	e, err := s.backend.AddRule(r.Context(), request)
	return created{"/v1/rules/" + e.ID, e}, err
}

func (s *Server) deleteRule(r *http.Request) (any, error) {
	return nil, s.backend.DeleteRule(r.Context(), api.RuleDeletion{ID: r.PathValue("id")})
}
