package server

// Unmarshal is the decoder of request bodies.
var Unmarshal = unmarshal

// Limits of the connections of a socket.
const (
	MaxClients = maxClients
	MaxPerUser = maxPerUser
	MaxStreams = maxStreams
	ForRoot    = forRoot
	Refused    = maxRefused
)

// Routes lists method and path of all routes.
func (s *Server) Routes() (list [][2]string) {
	for _, r := range s.routes {
		list = append(list, [2]string{r.method, r.path})
	}
	return list
}
