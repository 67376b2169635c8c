package server

import (
	"net/http"

	"vswitch/internal/api"
)

func (s *Server) published(r *http.Request) (any, error) {
	return list(s.backend.Published(r.Context(), r.URL.Query().Get("port")))
}

func (s *Server) publish(r *http.Request) (any, error) {
	var request api.PublishRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	p, err := s.backend.Publish(r.Context(), request)
	return created{"/v1/published", p}, err
}

// unpublish takes what goes from the body or, without one, from the query.
func (s *Server) unpublish(r *http.Request) (any, error) {
	var request api.UnpublishRequest
	if r.URL.RawQuery == "" {
		if err := decode(r, &request); err != nil {
			return nil, err
		}
		return nil, s.backend.Unpublish(r.Context(), request)
	}
	q := r.URL.Query()
	request.Port = q.Get("port")
	if q.Has("publish") {
		p, err := api.ParsePublish(q.Get("publish"))
		if err != nil {
			return nil, err
		}
		request.Publish = &p
	}
	return nil, s.backend.Unpublish(r.Context(), request)
}
