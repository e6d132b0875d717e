// Where a region's load is divided, judged by samples of it (RULES 30). Pure.
//
//   samples   . . :. .  ::. .|. . :: . . :         of each candidate: the weight left and right of it,
//                            key                   and that of scans across it

import UkehiBase

enum LoadSplit {
    typealias Sample = KeySamples.Sample

    enum Choice: Hashable {
        case key(Bytes)
        /// One key alone takes so much of the load.
        case oneKey(percent: Int)
        /// The best key leaves a difference of so much, with what crosses it.
        case unbalanced(percent: Int)
        case tooFew
    }

    /// Of the load: one side may have so much more than the other, with what crosses the key. At this the
    /// larger side has three quarters.
    static let mostImbalance = 0.5

    /// The sampled key that divides the load best.
    ///
    /// - Parameter least: With fewer samples nothing is chosen.
    /// - Complexity: O(n log n) for n samples.
    static func choose(_ samples: [Sample], in range: KeyRange, least: Int) -> Choice {
        guard samples.count >= least, !samples.isEmpty else { return .tooFew }
        let starts = samples.sorted { $0.key < $1.key }
        // Ascending by where they end; what reaches to the end of keys is left of nothing.
        let ends = samples.filter { $0.end.map { !$0.isEmpty } ?? true }
            .sorted {
                ($0.end ?? $0.key, $0.end == nil ? 1 : 0) < (
                    $1.end ?? $1.key, $1.end == nil ? 1 : 0
                )
            }
        let total = samples.reduce(0) { $0 + $1.weight }
        guard total > 0 else { return .tooFew }
        var best: (key: Bytes, imbalance: Double)?
        var largest = 0.0
        var before = 0.0
        var left = 0.0
        var ended = 0
        var position = 0
        while position < starts.count {
            let key = starts[position].key
            // A point at the key is right of it; a scan that ends there is left of it.
            while ended < ends.count, isLeft(ends[ended], of: key) {
                left += ends[ended].weight
                ended += 1
            }
            var atKey = 0.0
            let right = total - before
            while position < starts.count, starts[position].key == key {
                if starts[position].end == nil { atKey += starts[position].weight }
                before += starts[position].weight
                position += 1
            }
            largest = max(largest, atKey)
            guard key > range.lower, range.contains(key) else { continue }
            let imbalance = (abs(left - right) + max(0, total - left - right)) / total
            if imbalance < best?.imbalance ?? .infinity { best = (key, imbalance) }
        }
        if let best, best.imbalance <= mostImbalance { return .key(best.key) }
        let share = largest / total
        if share > 0.5 { return .oneKey(percent: percent(share)) }
        return .unbalanced(percent: percent(best?.imbalance ?? 1))
    }

    private static func isLeft(_ sample: Sample, of key: Bytes) -> Bool {
        sample.end.map { $0 <= key } ?? (sample.key < key)
    }

    private static func percent(_ fraction: Double) -> Int { Int((fraction * 100).rounded()) }

    // MARK: Appended keys

    /// Whether most of what is asked is to write keys beyond all that was there before: then one half of the load
    /// cannot be divided from the other, and the region is divided at its end (RULES 30).
    ///
    /// - Returns: A key near its end, so that all but the newest keys lie below it; nil if it is not so.
    static func end(of samples: [Sample], in range: KeyRange, least: Int) -> Bytes? {
        guard samples.count >= least else { return nil }
        var greatest = range.lower
        var writes: [Bytes] = []
        var appended = 0
        for sample in samples {
            if sample.isWrite {
                writes.append(sample.key)
                if sample.key > greatest { appended += 1 }
            }
            greatest = max(greatest, sample.key)
        }
        guard writes.count * 2 > samples.count, appended * 2 > writes.count else { return nil }
        writes.sort()
        let fromEnd = min(writes.count - 1, max(1, writes.count / 16))
        let key = writes[writes.count - 1 - fromEnd]
        return key > range.lower && range.contains(key) ? key : nil
    }

    // MARK: What is shown

    /// Parts of a region with nearly the same load each, a key that takes that much alone by itself; the hottest
    /// first.
    static func hotRanges(_ samples: [Sample], most: Int) -> [HotRange] {
        let ordered = samples.sorted { $0.key < $1.key }
        let total = samples.reduce(0) { $0 + $1.weight }
        guard total > 0, most > 0 else { return [] }
        var made: [(range: HotRange, weight: Double)] = []
        // Shares are of the whole from the beginning.
        func part(_ sample: Sample) -> HotRange {
            let share = sample.weight / total
            return HotRange(
                first: sample.key, last: sample.key, readShare: sample.isWrite ? 0 : share,
                writeShare: sample.isWrite ? share : 0)
        }
        var position = 0
        while position < ordered.count {
            let key = ordered[position].key
            var weight = ordered[position].weight
            var range = part(ordered[position])
            position += 1
            while position < ordered.count, ordered[position].key == key {
                weight += ordered[position].weight
                range.add(part(ordered[position]))
                position += 1
            }
            let bucket = total / Double(most)
            if let last = made.last, last.weight + weight <= bucket {
                made[made.count - 1].weight += weight
                made[made.count - 1].range.add(range)
            } else {
                made.append((range, weight))
            }
        }
        made.sort { ($1.range.share, $0.range.first) < ($0.range.share, $1.range.first) }
        return made.prefix(most).map(\.range)
    }
}

extension HotRange {
    /// What follows it is part of it.
    fileprivate mutating func add(_ next: HotRange) {
        last = next.last
        readShare += next.readShare
        writeShare += next.writeShare
    }
}
