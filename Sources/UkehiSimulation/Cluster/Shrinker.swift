// Makes a failing schedule of faults small: delta debugging (Zeller and Hildebrandt, 2002).

/// Leaves out as many faults as possible while the failure stays.
package enum Shrinker {
    /// - Parameters:
    ///   - faults: The numbers of a failing schedule.
    ///   - maxRuns: How often `fails` may be called at most.
    ///   - fails: Whether a run with only these faults still fails.
    /// - Returns: A failing subset, from which, unless `maxRuns` ended the search, none of the last
    ///   pieces tried can be left out.
    package static func shrink(
        _ faults: [Int], maxRuns: Int, fails: (Set<Int>) -> Bool
    ) -> [Int] {
        var kept = faults
        var pieces = 2
        var runs = 0
        // Often no fault is needed at all, or the first of them is enough.
        runs += 1
        if fails([]) { return [] }
        while kept.count >= 2, pieces <= kept.count {
            let size = (kept.count + pieces - 1) / pieces
            var reduced: [Int]?
            for start in stride(from: 0, to: kept.count, by: size) {
                guard runs < maxRuns else { return kept }
                let rest = Array(kept[..<start] + kept[min(start + size, kept.count)...])
                runs += 1
                if !rest.isEmpty, fails(Set(rest)) {
                    reduced = rest
                    break
                }
            }
            if let reduced {
                kept = reduced
                pieces = max(pieces - 1, 2)
            } else if pieces == kept.count {
                return kept
            } else {
                pieces = min(pieces * 2, kept.count)
            }
        }
        return kept
    }
}
