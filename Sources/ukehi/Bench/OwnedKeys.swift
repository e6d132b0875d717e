// Which keys a client may use: those in regions that its node leads, as one view of the topology
// says. So an operation starts on the leader's lane, as with an embedder that routes to leaders.
//
//   first two characters -> led elsewhere | led here | look at the whole key
//
// Of many keys one is drawn until it is led here, which takes a few nanoseconds a try; few keys are
// listed, since a node may lead hardly any of them.
//
// Immutable; replaced when a reply shows that the view is old.

import UkehiBase
import UkehiNode

/// One node's share of the keys.
final class OwnedKeys: Sendable {
    private enum Share: UInt8 { case none, all, some }

    private let pairs: [UInt8]
    private let led: LedRanges
    /// Generated keys that are led here, if there are few keys in all.
    private let listed: [UInt32]
    private let isListed: Bool
    /// For an input: whether the node leads a record's region, by position.
    private let records: [Bool]
    private let keys: KeySpace?
    /// No key to choose from exists.
    let isEmpty: Bool

    private static let maxListed: UInt64 = 1 << 16

    init(node: NodeID?, topology: Topology, workload: Workload) {
        let led = LedRanges(
            topology.regions.filter { $0.leader != nil && $0.leader == node }.map(\.range))
        self.led = led
        switch workload.source {
        case .generated(let keys, _):
            self.keys = keys
            pairs = OwnedKeys.shares(led)
            records = []
            isListed = keys.count <= OwnedKeys.maxListed
            if isListed {
                listed = (0..<UInt32(keys.count)).filter { number in
                    let key = keys.key(UInt64(number))
                    return led.contains(key)
                }
                isEmpty = listed.isEmpty
            } else {
                listed = []
                isEmpty = !pairs.contains { $0 != Share.none.rawValue }
            }
        case .input(let input):
            keys = nil
            pairs = []
            listed = []
            isListed = false
            records = input.records.map { led.contains($0.key) }
            isEmpty = !records.contains(true)
        }
    }

    private static func shares(_ led: LedRanges) -> [UInt8] {
        (0..<KeySpace.pairCount).map { pair in
            let prefix = KeySpace.prefix(of: pair)
            let range = KeyRange(lower: Bytes(prefix), upper: Bytes([prefix[0], prefix[1] + 1]))
            if led.range(of: range.lower)?.contains(range) ?? false { return Share.all.rawValue }
            return (led.overlaps(range) ? Share.some : Share.none).rawValue
        }
    }

    /// A generated key that is led here, uniformly; nil: many tries met none.
    @inline(__always)
    func draw(_ random: inout BenchRandom) -> Int? {
        if isListed {
            if listed.isEmpty { return nil }
            return Int(listed[Int(random.next(below: UInt64(listed.count)))])
        }
        guard let keys else { return nil }
        for _ in 0..<1000 {
            let number = random.next(below: keys.count)
            if contains(generated: number) { return Int(number) }
        }
        return nil
    }

    /// Whether the node leads the region of generated key `number`.
    @inline(__always)
    func contains(generated number: UInt64) -> Bool {
        let share = pairs[keys?.pair(of: number) ?? 0]
        if share == Share.all.rawValue { return true }
        return share == Share.some.rawValue && containsExactly(number)
    }

    private func containsExactly(_ number: UInt64) -> Bool {
        guard let key = keys?.key(number) else { return false }
        return led.contains(key)
    }

    /// Whether the node leads the region of an input's record.
    @inline(__always)
    func contains(record: Int) -> Bool { records[record] }

    /// Whether the node leads the region of `key`.
    func contains(_ key: Bytes) -> Bool { led.contains(key) }
}
