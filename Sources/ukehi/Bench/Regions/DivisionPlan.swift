// How one region becomes very many with few commands: pure arithmetic on the numbers of keys.
//
//   [0 ……………………………………………………… n)     one command: up to 64 new regions, evenly
//   [0 …)[ … )[ … ) …                     each of those by itself, 64 off its lower end at a time
//
// A command takes new regions off the lower end of what it divides (docs/decisions/0019), and the regions that one
// command has made are divided side by side.

import UkehiState

/// Commands that leave a region for each of the numbers `0..<count`, each beginning at its number.
struct DivisionPlan: Equatable, Sendable {
    /// Where the first command divides everything: the numbers at which regions begin.
    let first: [Int]
    /// For each of the regions that are there then, the commands that divide it further, in order.
    let parts: [[[Int]]]

    init(count: Int, most: Int = SplitCommand.maxParts) {
        let groups = min(count, most + 1)
        let starts = (0...groups).map { count * $0 / groups }
        first = Array(starts[1..<groups])
        parts = (0..<groups).map { group in
            let inner = Array(starts[group] + 1..<max(starts[group + 1], starts[group] + 1))
            return stride(from: 0, to: inner.count, by: most).map {
                Array(inner[$0..<min($0 + most, inner.count)])
            }
        }
    }

    var commandCount: Int { (first.isEmpty ? 0 : 1) + parts.reduce(0) { $0 + $1.count } }
}
