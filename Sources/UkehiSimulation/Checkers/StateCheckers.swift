// What must be equal, or whole, wherever one looks: replicas at one index, the ranges of all regions, the
// values that clients were promised.

import UkehiBase
import UkehiState

/// Replicas that have applied the same entries hold the same state (Raft, figure 3).
struct DigestChecker {
    private var seen: [RegionID: [LogIndex: (node: Int, digest: RegionDigest)]] = [:]

    /// Entries of the region were lost, and others may stand in their places.
    mutating func forget(_ region: RegionID) { seen[region] = nil }

    /// Takes a replica's digest; returns what is wrong with it.
    mutating func take(_ digest: RegionDigest, node: Int) -> String? {
        let first = seen[digest.region]?[digest.applied]
        if let first, first.digest != digest {
            return "node-\(first.node + 1) and node-\(node + 1) differ at index \(digest.applied): "
                + "\(String(first.digest.low, radix: 16)), \(String(digest.low, radix: 16))"
        }
        if first == nil { seen[digest.region, default: [:]][digest.applied] = (node, digest) }
        return nil
    }
}

/// Every key belongs to exactly one region.
enum RangeCoverage {
    /// Why these ranges do not hold each key once; nil if they do.
    static func problem(_ unsorted: [KeyRange], of whole: KeyRange = .all) -> String? {
        let ranges = unsorted.sorted {
            // The one without an end is last among those that begin together.
            $0.lower != $1.lower
                ? $0.lower < $1.lower
                : !$0.upper.isEmpty && ($1.upper.isEmpty || $0.upper < $1.upper)
        }
        guard let first = ranges.first, let last = ranges.last else {
            return "no region owns a key"
        }
        if first.lower != whole.lower { return "nobody owns the keys below \(first.lower)" }
        for (left, right) in zip(ranges, ranges.dropFirst()) {
            if left.overlaps(right) { return "\(left) and \(right) own the same keys" }
            if left.upper != right.lower {
                return "nobody owns the keys between \(left) and \(right)"
            }
        }
        return last.upper == whole.upper ? nil : "nobody owns the keys from \(last.upper) on"
    }

    /// Which two of these own the same keys; nil if none do.
    static func overlap(_ unsorted: [KeyRange]) -> String? {
        let ranges = unsorted.sorted { $0.lower < $1.lower }
        for (left, right) in zip(ranges, ranges.dropFirst()) where left.overlaps(right) {
            return "\(left) and \(right) own the same keys"
        }
        return nil
    }
}

/// No acknowledged write is lost: a simple rule beside the search for an order of everything, so that a
/// lost write is called one.
enum AcknowledgedWrites {
    /// Looks at reads of single keys: what one finds may not be older than a write that was acknowledged
    /// before the read was called, and that began after the found one had ended.
    static func problem(_ history: [HistoryOperation]) -> String? {
        var writes: [Int: [(value: UInt64?, call: UInt64, ret: UInt64)]] = [:]
        for operation in history {
            guard let ret = operation.outcome == .unknown ? .max : operation.ret else { continue }
            switch (operation.action, operation.outcome) {
            case (_, .conditionFailed): continue
            case (.put(let key, let value), _), (.compareAndSet(let key, _, let value), _):
                writes[key, default: []].append((value, operation.call, ret))
            case (.delete(let key), _): writes[key, default: []].append((nil, operation.call, ret))
            default: continue
            }
        }
        for operation in history {
            guard case .get(let key) = operation.action, case .found(let found) = operation.outcome
            else { continue }
            // Who left a counter's value is a matter of how many there were.
            if let found, found >= SimulatedValue.counterMark { continue }
            let own = writes[key] ?? []
            // When the last of those that can have left what was found had ended.
            let origins = own.filter { $0.value == found && $0.call <= operation.ret ?? .max }
            if let found, origins.isEmpty { return "key \(key) shows \(found), which nobody wrote" }
            // Absence that no delete made ended before everything.
            let end = origins.map(\.ret).max()
            let lost = own.first { write in
                write.ret < operation.call && end.map { write.call > $0 } ?? true
            }
            if let lost {
                return "key \(key) shows \(found.map(String.init) ?? "nothing") after "
                    + "\(lost.value.map { "the write of \($0)" } ?? "a delete") was acknowledged"
            }
        }
        return nil
    }
}
