package ranking

// affinity gives a workload the best cluster by the affinity and location factors.
func affinity(int) Strategy { return Strategy{ByProximity: true, Number: 1} }
