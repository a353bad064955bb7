package lint

// Codes are those of all checks in the tables.
func Codes() (codes []string) {
	for _, c := range placements {
		codes = append(codes, c.code)
	}
	for _, c := range registrations {
		codes = append(codes, c.code)
	}
	for _, c := range workloads {
		codes = append(codes, c.code)
	}
	return codes
}
