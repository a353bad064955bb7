package ranking

// spread gives a workload the best clusters.
func spread(number int) Strategy { return Strategy{Number: number} }
