// Keys of a region by how many bytes lie below them: where it can be divided in equal parts. The keys are
// of its data, never computed from its bounds (RULES 31).
//
//   bytes  0 ─────┬───────┬────────┬───────┬─────▶   a mark at the first key at or past each step
//                 mark    mark     mark    mark

package import UkehiBase

package struct KeyMarks: Hashable, Sendable {
    package struct Mark: Hashable, Sendable {
        package var key: Bytes
        /// Bytes of the keys below it and of their values.
        package var below: UInt64
    }
    /// Bytes of keys and values that were seen; without marks an estimate.
    package private(set) var bytes: UInt64 = 0
    package private(set) var marks: [Mark] = []
    /// Whether that is all of the region.
    package private(set) var isWhole = true
    private let step: UInt64
    private let most: UInt64

    /// - Parameters:
    ///   - step: About so many bytes lie between two marks, or one pair.
    ///   - most: No more is looked at.
    package init(step: UInt64, most: UInt64) {
        self.step = max(step, 1)
        self.most = most
    }

    /// Nothing was looked at, since it is so small.
    package init(estimate: UInt64) {
        self.init(step: 1, most: estimate)
        bytes = estimate
    }

    /// Takes the next pair in the order of keys; false: it was not taken, and no more is wanted.
    package mutating func add(key: UnsafeRawBufferPointer, valueBytes: Int) -> Bool {
        guard bytes < most else {
            isWhole = false
            return false
        }
        if bytes > 0, bytes >= (marks.last?.below ?? 0) / step * step + step {
            marks.append(Mark(key: Bytes(copying: key), below: bytes))
        }
        bytes += UInt64(key.count + valueBytes)
        return true
    }

    /// Keys that divide what was seen in parts of nearly this many bytes, at least two; ascending, with pairs on
    /// both sides of each. Empty where there are too few keys. What was not seen is one part more.
    package func cuts(partBytes: UInt64) -> [Bytes] {
        let part = max(partBytes, 1)
        let parts = isWhole ? max(2, (bytes + part / 2) / part) : max(1, bytes / part) + 1
        let length = isWhole ? bytes / parts : part
        var keys: [Bytes] = []
        var position = 0
        for number in 1..<parts {
            let wanted = length * number
            // The nearest of those that are left.
            while position + 1 < marks.count,
                distance(marks[position + 1].below, wanted)
                    <= distance(marks[position].below, wanted)
            { position += 1 }
            guard position < marks.count else { break }
            keys.append(marks[position].key)
            position += 1
        }
        return keys
    }

    private func distance(_ a: UInt64, _ b: UInt64) -> UInt64 { a > b ? a - b : b - a }
}
