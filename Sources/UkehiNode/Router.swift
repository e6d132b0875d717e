// Key to region to lane: a table that is replaced as a whole when regions change, never mutated.
//
// Lookup is a binary search over the lower bounds. Their first eight bytes, as one big-endian number
// each, decide nearly all comparisons without touching the key's memory again.

package import UkehiBase

/// Where each user key goes. Immutable; any thread.
///
/// Invariant: the ranges are ascending and do not overlap.
package final class Router: Sendable {
    /// One row of the table.
    package struct Route: Sendable {
        package let region: RegionID
        package let range: KeyRange
        package let lane: Int
    }
    private let prefixes: [UInt64]
    /// Whether the next range begins where this one ends.
    private let isFollowed: [Bool]
    /// Ascending by range.
    package let routes: [Route]

    /// Of two tables of a node, the one with the higher number is the newer one: they are made and handed
    /// to lanes by more than one thread.
    package let generation: UInt64

    package init(_ unsorted: [Route], generation: UInt64 = 0) {
        self.generation = generation
        let routes = unsorted.sorted { $0.range.lower < $1.range.lower }
        for (left, right) in zip(routes, routes.dropFirst()) {
            invariant(
                !left.range.overlaps(right.range),
                "regions \(left.region) and \(right.region) own the same keys")
        }
        self.routes = routes
        prefixes = routes.map { Router.prefix(of: $0.range.lower) }
        isFollowed = routes.indices.map { position in
            position + 1 < routes.count
                && routes[position].range.upper == routes[position + 1].range.lower
        }
    }

    /// The route of the region that owns `key`; nil if this node knows none.
    package func route(for key: Bytes) -> Route? { position(for: key).map { routes[$0] } }

    /// The place in ``routes`` of the region that owns `key`; nil if this node knows none.
    package func position(for key: Bytes) -> Int? {
        let wanted = Router.prefix(of: key)
        var low = 0
        var high = prefixes.count
        // The first route whose lower bound is above the key.
        while low < high {
            let middle = (low + high) / 2
            let prefix = prefixes[middle]
            let isAbove =
                prefix != wanted ? prefix > wanted : routes[middle].range.lower > key
            if isAbove { high = middle } else { low = middle + 1 }
        }
        guard low > 0 else { return nil }
        // The next lower bound is above the key: only a gap or the end needs another look.
        if low < routes.count && isFollowed[low - 1] { return low - 1 }
        let upper = routes[low - 1].range.upper
        return upper.isEmpty || key < upper ? low - 1 : nil
    }

    /// The first eight bytes as a big-endian number, zero-filled: its order agrees with key order
    /// wherever two numbers differ.
    static func prefix(of key: Bytes) -> UInt64 {
        key.withUnsafeBytes { bytes in
            if bytes.count >= 8 {
                return UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
            }
            var value: UInt64 = 0
            for position in 0..<bytes.count {
                value |= UInt64(bytes[position]) << UInt64(56 - 8 * position)
            }
            return value
        }
    }
}
