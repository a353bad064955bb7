package ranking

// binPack gives a workload the fullest clusters that it fits on: those that would have the least left, over all resources
// together, so that large workloads find room elsewhere.
func binPack(number int) Strategy { return Strategy{Packs: true, Number: number} }
