package ranking

// roundRobin gives successive workloads of a placement successive clusters, best first: it takes the best of those that
// hold the fewest. The rotation needs no memory but the decisions themselves, so it survives a restart.
func roundRobin(int) Strategy { return Strategy{Number: 1, Select: leastUsed} }

func leastUsed(t *Tournament, inUse func(position int) int, chosen []Key) []Key {
	var least Key
	var uses int
	for position, key := range t.Keys() {
		if key == 0 {
			continue
		}
		if n := inUse(position); least == 0 || n < uses || n == uses && key > least {
			least, uses = key, n
		}
	}
	if least == 0 {
		return chosen
	}
	return append(chosen, least)
}
