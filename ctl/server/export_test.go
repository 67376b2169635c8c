package server

// Unmarshal is the decoder of request bodies.
var Unmarshal = unmarshal

// MaxClients is the limit of connections, Refused that of those that wait for their 503 above it.
const MaxClients, Refused = maxClients, maxRefused

// Routes lists method and path of all routes.
func (s *Server) Routes() (list [][2]string) {
	for _, r := range s.routes {
		list = append(list, [2]string{r.method, r.path})
	}
	return list
}
