// Divides regions at the middle of their keys, one after the other, while a load runs.

import Synchronization
import Ukehi
import UkehiBase
import UkehiNode

/// Stretches of the load's keys, each one region's, and where the next one is to be divided. Pure.
struct SplitPlan: Sendable {
    /// Places in the ascending keys.
    private(set) var stretches: [Range<Int>]

    /// - Parameter starts: The regions' lower bounds, ascending.
    init(keys: [Bytes], starts: [Bytes]) {
        let places = starts.map { start in keys.partitioningIndex { $0 >= start } }
        stretches = zip(places, places.dropFirst() + [keys.count]).map { $0..<max($0, $1) }
    }

    /// Halves the longest stretch; the place of the key at which a new region ends. Nil: none has two keys.
    mutating func next() -> Int? {
        guard
            let position = stretches.indices.max(by: { stretches[$0].count < stretches[$1].count }),
            stretches[position].count >= 2
        else { return nil }
        let stretch = stretches[position]
        let middle = stretch.lowerBound + stretch.count / 2
        stretches[position] = stretch.lowerBound..<middle
        stretches.insert(middle..<stretch.upperBound, at: position + 1)
        return middle
    }
}

/// Carries the plan out, evenly over the time that it is given.
final class Splitter: Sendable {
    private let node: Node
    private let keys: [Bytes]
    private let count: Int
    private let seconds: Double
    private let task = Mutex<Task<String?, any Error>?>(nil)

    /// - Parameter keys: The load's, ascending.
    init(node: Node, keys: [Bytes], count: Int, seconds: Double) {
        self.node = node
        self.keys = keys
        self.count = count
        self.seconds = seconds
    }

    func start() {
        task.withLock { task in
            task = Task { try await self.run() }
        }
    }

    /// Why not everything was divided; nil: it was. Waits until the last one is.
    func finish() async throws -> String? { try await task.withLock { $0 }?.value }

    private func run() async throws -> String? {
        let start = BenchClock.now()
        var plan = SplitPlan(keys: keys, starts: node.regions.map(\.range.lower))
        for number in 0..<count {
            let due = start + UInt64((Double(number) + 0.5) / Double(count) * seconds * 1e9)
            let now = BenchClock.now()
            if due > now { try await Task.sleep(for: .nanoseconds(due - now)) }
            guard let place = plan.next() else {
                return "there are too few keys for \(count) splits: \(number) were made"
            }
            do throws(RequestError) {
                _ = try await node.split(at: [keys[place]], timeout: .seconds(30))
            } catch {
                return "split \(number + 1) of \(count) failed: \(error)"
            }
        }
        return nil
    }
}

extension [Bytes] {
    /// The first place at which `belongs` holds; it holds from there on.
    func partitioningIndex(_ belongs: (Bytes) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if belongs(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
