package ranking

// binPack gives a workload the fullest clusters that it fits on: those of which the least would be left, of all resources
// together, so that large workloads find room elsewhere.
func binPack(number int) Strategy { return Strategy{Packs: true, Number: number} }
