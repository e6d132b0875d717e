// All nodes of a cluster as one target: each request goes to the node that leads its key's region.
//
//   request ─▶ its key, sought in what each node leads ─▶ that node
//
// Who is asked by mistake, since leaders move and regions are divided, refuses; the client tries again and the
// view is made anew. Each node is believed about what it leads itself, and about nothing else.

import Synchronization
import UkehiBase
import UkehiNode

/// Spreads requests over targets by key.
final class RoutedTarget: RequestTarget, @unchecked Sendable {
    // Safety: `view` is behind its mutex; the rest never changes.
    private let targets: [RequestTarget]
    private let view = Mutex<View>(View())
    private static let freshNanoseconds: UInt64 = 20_000_000

    private struct View {
        /// What each target leads.
        var led: [LedRanges] = []
        /// Every key had a leader, once.
        var wasComplete = false
        var made: UInt64 = 0
    }

    init(_ targets: [RequestTarget]) { self.targets = targets }

    override func submit(_ requests: inout [ClientRequest]) {
        let led = view.withLock { $0.led }
        guard targets.count > 1, !led.isEmpty else { return targets[0].submit(&requests) }
        var shares = [[ClientRequest]](repeating: [], count: targets.count)
        for request in requests {
            // Led by nobody just now: any node says so.
            shares[led.firstIndex { $0.contains(request.key) } ?? 0].append(request)
        }
        requests.removeAll(keepingCapacity: true)
        for target in targets.indices where !shares[target].isEmpty {
            targets[target].submit(&shares[target])
        }
    }

    /// One region with all keys, led by this target, once each key has been seen to have a leader.
    override func topology() async -> Topology? {
        let now = BenchClock.now()
        let (wasComplete, made) = view.withLock { ($0.wasComplete, $0.made) }
        if !wasComplete || now &- made > Self.freshNanoseconds {
            var found: [Topology] = []
            for target in targets { if let one = await target.topology() { found.append(one) } }
            guard let first = found.first else { return nil }
            let led = found.map { one in
                LedRanges(one.regions.filter { $0.leader == one.node }.map(\.range))
            }
            let isComplete =
                found.count == targets.count
                && Self.cover(led.flatMap(\.ascending))
            view.withLock { view in
                // Of a node that cannot be asked nothing new is known.
                guard found.count == targets.count || view.led.isEmpty else { return }
                view.led = led
                view.wasComplete = view.wasComplete || isComplete
                view.made = now
            }
            return whole(first, isLed: wasComplete || isComplete)
        }
        guard let one = await targets[0].topology() else { return nil }
        return whole(one, isLed: true)
    }

    /// Whether ranges hold every key.
    static func cover(_ ranges: [KeyRange]) -> Bool {
        let sorted = ranges.sorted { $0.lower < $1.lower }
        guard var reached = sorted.first?.upper, sorted.first?.lower.isEmpty == true else {
            return false
        }
        for range in sorted.dropFirst() {
            if reached.isEmpty { return true }
            guard range.lower <= reached else { return false }
            if range.upper.isEmpty || range.upper > reached { reached = range.upper }
        }
        return reached.isEmpty
    }

    private func whole(_ one: Topology, isLed: Bool) -> Topology {
        var whole = one
        whole.regions = [
            RegionInfo(
                region: RegionID(0), range: KeyRange(lower: "", upper: ""),
                epoch: RegionEpoch(confVersion: 1, version: 1),
                leader: isLed ? one.node : nil, nodes: [])
        ]
        return whole
    }
}
