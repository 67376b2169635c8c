package ctl_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"

	"vswitch/ctl"
	"vswitch/ctl/server"
	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

// Add a network and a port in it.
func Example() {
	socket, stop, err := servertest.Serve(servertest.New(), new(server.Events), discard) // on a real host: ctl.DefaultSocket
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	ctx := context.Background()
	c := ctl.New(socket)
	defer c.Close()
	if _, err := c.AddNetwork(ctx, api.NetworkRequest{Name: "lab", Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}}); err != nil {
		log.Fatal(err)
	}
	p, err := c.AddPort(ctx, api.PortRequest{Name: "db", Network: "lab", Netns: "db", IPs: []netip.Addr{netip.MustParseAddr("10.9.0.5")}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Name, p.IPs[0], p.IfName)

	_, err = c.AddPort(ctx, api.PortRequest{Name: "db", Network: "lab", Netns: "db"})
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == api.CodeConflict {
		fmt.Println("refused:", refused.Detail)
	}
	// Output:
	// db 10.9.0.5/24 eth0
	// refused: there is a port "db" already: choose another name or use --may-exist
}
