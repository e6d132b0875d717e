// A small set of peers, sorted: what a majority is counted over.

public import UkehiBase

/// Peers in ascending order, each once. Three to seven of them, so that a scan of one cache line
/// beats hashing, and every walk has one order.
///
/// Invariant: strictly ascending.
public struct PeerSet: Hashable, Sendable {
    public private(set) var ids: [PeerID]

    public init() { ids = [] }

    /// The peers of `source`, in any order and with repetitions.
    public init(_ source: [PeerID]) {
        ids = []
        ids.reserveCapacity(source.count)
        for id in source { insert(id) }
    }

    public var count: Int { ids.count }
    public var isEmpty: Bool { ids.isEmpty }

    public func contains(_ id: PeerID) -> Bool {
        for member in ids where member >= id { return member == id }
        return false
    }

    public mutating func insert(_ id: PeerID) {
        let place = ids.firstIndex { $0 >= id } ?? ids.count
        if place < ids.count, ids[place] == id { return }
        ids.insert(id, at: place)
    }

    public mutating func remove(_ id: PeerID) {
        if let place = ids.firstIndex(of: id) { ids.remove(at: place) }
    }

    /// The peers in either set.
    public func union(_ other: PeerSet) -> PeerSet {
        var result = self
        for id in other.ids { result.insert(id) }
        return result
    }

    /// How many peers are in exactly one of the sets.
    public func differences(from other: PeerSet) -> Int {
        ids.count { !other.contains($0) } + other.ids.count { !contains($0) }
    }
}
