package capacity

import "github.com/kcp-placement/placement/internal/int128"

// sum adds up amounts exactly, beyond the bounds of int64.
//
// Invariant: what was added can be subtracted again, in any order, whatever the sum was in between.
type sum struct {
	cpu, memory, storage int128.Int
	// extended has no entry with amount 0.
	extended map[string]int128.Int
}

func (s *sum) add(r Resources) {
	s.cpu = s.cpu.Add(int128.Of(r.CPU))
	s.memory = s.memory.Add(int128.Of(r.Memory))
	s.storage = s.storage.Add(int128.Of(r.Storage))
	if len(r.Extended) == 0 { // ranging over an empty map costs more than everything else here
		return
	}
	for name, amount := range r.Extended {
		s.setExtended(name, s.extended[name].Add(int128.Of(amount)))
	}
}

func (s *sum) sub(r Resources) {
	s.cpu = s.cpu.Sub(int128.Of(r.CPU))
	s.memory = s.memory.Sub(int128.Of(r.Memory))
	s.storage = s.storage.Sub(int128.Of(r.Storage))
	if len(r.Extended) == 0 {
		return
	}
	for name, amount := range r.Extended {
		s.setExtended(name, s.extended[name].Sub(int128.Of(amount)))
	}
}

func (s *sum) subSum(o *sum) {
	s.cpu, s.memory, s.storage = s.cpu.Sub(o.cpu), s.memory.Sub(o.memory), s.storage.Sub(o.storage)
	if len(o.extended) == 0 {
		return
	}
	for name, amount := range o.extended {
		s.setExtended(name, s.extended[name].Sub(amount))
	}
}

func (s *sum) setExtended(name string, amount int128.Int) {
	switch {
	case amount == int128.Int{}:
		delete(s.extended, name)
	case s.extended == nil:
		s.extended = map[string]int128.Int{name: amount}
	default:
		s.extended[name] = amount
	}
}

// of returns the amount of one resource.
func (s *sum) of(name string) int128.Int {
	switch name {
	case CPU:
		return s.cpu
	case Memory:
		return s.memory
	case Storage:
		return s.storage
	default:
		return s.extended[name]
	}
}

// get returns the amount of one resource, or the nearest int64.
func (s *sum) get(name string) int64 { return s.of(name).Int64() }

// extendedAmounts returns a new map of the extended resources, nil if there are none.
func (s *sum) extendedAmounts() map[string]int64 {
	if len(s.extended) == 0 {
		return nil
	}
	amounts := make(map[string]int64, len(s.extended))
	for name, amount := range s.extended {
		amounts[name] = amount.Int64()
	}
	return amounts
}

// resources returns the amounts, each clamped to int64.
func (s *sum) resources() Resources {
	return Resources{CPU: s.cpu.Int64(), Memory: s.memory.Int64(), Storage: s.storage.Int64(), Extended: s.extendedAmounts()}
}

// lacking returns the first resource, in the order of Resources.Each, of which request asks for more than the sum has.
func (s *sum) lacking(request Resources) (name string, short bool) {
	less := func(has int128.Int, asked int64) bool { return asked > 0 && has.Less(int128.Of(asked)) }
	switch {
	case less(s.cpu, request.CPU):
		return CPU, true
	case less(s.memory, request.Memory):
		return Memory, true
	case less(s.storage, request.Storage):
		return Storage, true
	}
	if len(request.Extended) == 0 {
		return "", false
	}
	for extended, amount := range request.Extended {
		if less(s.extended[extended], amount) && (!short || extended < name) {
			name, short = extended, true
		}
	}
	return name, short
}
