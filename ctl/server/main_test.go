package server_test

import (
	"testing"

	"vswitch/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
