package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) transact(r *http.Request) (any, error) {
	var request api.Transaction
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	return s.backend.Transact(r.Context(), request)
}
