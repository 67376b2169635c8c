package packet

// Reseed gives hashes new secrets, as another start of the process does.
func Reseed() { seeds = newSeeds() }
