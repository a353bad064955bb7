package ranking

// roundRobin gives successive workloads of a placement successive clusters, best first: it takes the best of those that
// hold the fewest. The rotation needs no memory but the decisions themselves, so it survives a restart.
func roundRobin(int) Strategy { return Strategy{Number: 1, Select: leastUsed, Prefer: unused} }

func leastUsed(t *Tournament, turn *Turn, chosen []Key) []Key {
	var least Key
	var uses int
	for position, key := range t.Keys() {
		if key == 0 {
			continue
		}
		if n := turn.InUse(position); least == 0 || n < uses || n == uses && key > least {
			least, uses = key, n
		}
	}
	if least == 0 {
		return chosen
	}
	return append(chosen, least)
}

// unused prefers clusters with fewer workloads of the placement.
func unused(k Key, turn *Turn) int64 { return -int64(turn.InUse(k.Position())) * 101 * Point }
