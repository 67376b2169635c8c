package server

import (
	"io"
	"net/http"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/config"
)

// yamlType is the media type of YAML (RFC 9512).
const yamlType = "application/yaml"

// config answers with YAML to those who ask for it, else with JSON.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	c, err := s.backend.Config(r.Context())
	switch {
	case err != nil:
		s.problem(w, r, err)
	case strings.Contains(r.Header.Get("Accept"), yamlType):
		setWriteDeadline(w, clientOf(r).answerTime())
		w.Header().Set("Content-Type", yamlType)
		w.Write(config.Encode(c))
	default:
		s.reply(w, r, c)
	}
}

// apply reads YAML, whatever the content type says, for JSON is YAML: so what is wrong is told with its line and column.
func (s *Server) apply(r *http.Request) (any, error) {
	var o api.ApplyOptions
	var err error
	if o.DryRun, err = boolean(r, "dry_run", false); err != nil {
		return nil, err
	}
	if o.NoDelete, err = boolean(r, "no_delete", false); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c, err := config.Decode(body)
	if err != nil {
		return nil, err
	}
	return s.backend.Apply(r.Context(), c, o)
}
