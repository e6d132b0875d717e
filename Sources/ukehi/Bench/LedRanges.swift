// The ranges that one node leads, searched by key.

import UkehiBase

/// Ranges without overlaps, searched by key.
struct LedRanges: Sendable {
    let ascending: [KeyRange]

    init(_ ranges: [KeyRange]) { ascending = ranges.sorted { $0.lower < $1.lower } }

    /// The range that holds a key.
    func range(of key: Bytes) -> KeyRange? {
        let next = place(after: key)
        guard next > 0, ascending[next - 1].contains(key) else { return nil }
        return ascending[next - 1]
    }

    func contains(_ key: Bytes) -> Bool { range(of: key) != nil }

    func overlaps(_ range: KeyRange) -> Bool {
        let next = place(after: range.lower)
        return next > 0 && ascending[next - 1].overlaps(range)
            || next < ascending.count && ascending[next].overlaps(range)
    }

    /// The first that begins behind a key.
    private func place(after key: Bytes) -> Int {
        var low = 0
        var high = ascending.count
        while low < high {
            let middle = (low + high) / 2
            if ascending[middle].lower <= key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
