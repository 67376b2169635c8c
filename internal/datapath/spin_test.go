package datapath

import "testing"

func TestSpinner(t *testing.T) {
	const max = 50e3
	for _, c := range []struct {
		name string
		do   func(*spinner)
		want int64
	}{
		{"never polls at first", func(s *spinner) {}, 0},
		{"a short sleep starts it", func(s *spinner) { s.woke(30e3) }, startSpin},
		{"short sleeps double it, up to the maximum", func(s *spinner) { times(9, func() { s.woke(30e3) }) }, max},
		{"a long sleep halves it", func(s *spinner) { s.window = max; s.woke(1e9) }, max / 2},
		{"three long sleeps end it", func(s *spinner) { s.window = max; times(3, func() { s.woke(1e9) }) }, 0},
		{"a short sleep between forgives", func(s *spinner) {
			s.window = max
			s.woke(1e9)
			s.woke(1e9)
			s.woke(10e3)
			s.woke(1e9)
		}, max / 4},
		{"a poll that finds something doubles it", func(s *spinner) { s.window = startSpin; s.won(20e3) }, 2 * startSpin},
		{"frames too fast end it", func(s *spinner) { s.window = max; times(fastStreak, func() { s.won(1e3) }) }, 0},
		{"now and then too fast is nothing", func(s *spinner) {
			s.window = max
			times(3*fastStreak, func() { s.won(1e3); s.won(1e3); s.won(9e3) })
		}, max},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spinner{max: max}
			c.do(&s)
			if s.window != c.want {
				t.Errorf("window %d, want %d", s.window, c.want)
			}
		})
	}
}

func times(n int, f func()) {
	for range n {
		f()
	}
}
