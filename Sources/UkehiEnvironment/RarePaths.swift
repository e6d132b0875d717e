// Whether to take a rare path. Production carries `RarePaths.off`: the question is a load and a branch
// that is never taken. A simulation draws the answers from its seed and counts them.

/// Decides at each ``RarePath``, for one run.
///
/// As in FoundationDB, a run first draws which points are on at all, then how often each of these fires:
/// runs differ in kind, not only in detail.
public final class RarePaths: @unchecked Sendable {
    // Safety: what changes is touched only while `isOn`, which is in simulations: one thread.
    /// Public, as ``takes(_:)`` is, so that other modules ask without a call.
    public let isOn: Bool
    private var random: (any RandomSource)?
    /// Of 65536; zero: the point is off in this run.
    private var chances: [UInt64] = []
    private var asked: [UInt64] = []
    private var taken: [UInt64] = []
    /// No rare path is taken any more; questions are still counted.
    package var isQuiet = false

    /// Never a rare path, and nothing counted.
    package static let off = RarePaths()

    private init() { isOn = false }

    /// Draws from `random`; each point is on with `enabledPercent` in a hundred.
    package init(random: any RandomSource, enabledPercent: UInt64) {
        isOn = true
        self.random = random
        let count = RarePath.allCases.count
        asked = Array(repeating: 0, count: count)
        taken = asked
        let rates: [UInt64] = [1 << 15, 1 << 13, 1 << 11, 1 << 9]
        chances = (0..<count).map { _ in
            // Both are drawn always, so that a percentage more or less shifts no other point.
            let isEnabled = random.next() % 100 < enabledPercent
            let rate = rates[Int(random.next() % 4)]
            return isEnabled ? rate : 0
        }
    }

    /// Only these points, each taken with `chance` in 65536; for tests.
    package init(random: any RandomSource, only paths: Set<RarePath>, chance: UInt64 = 1 << 15) {
        isOn = true
        self.random = random
        chances = RarePath.allCases.map { paths.contains($0) ? chance : 0 }
        asked = Array(repeating: 0, count: chances.count)
        taken = asked
    }

    /// Whether to take this path now.
    @inlinable @inline(__always)
    public func takes(_ path: RarePath) -> Bool { isOn && draws(path) }

    @usableFromInline @inline(never)
    func draws(_ path: RarePath) -> Bool {
        let position = Int(path.rawValue)
        asked[position] += 1
        guard !isQuiet, chances[position] > 0, let random,
            random.next() & 0xffff < chances[position]
        else { return false }
        taken[position] += 1
        return true
    }

    /// A number in `range`, for a path that was taken and needs one.
    package func pick(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int((random?.next() ?? 0) % UInt64(range.count))
    }

    /// How often each point was asked, and how often its rare path was taken, in the order of the points.
    package var counts: [(path: RarePath, asked: UInt64, taken: UInt64)] {
        RarePath.allCases.map { path in
            let position = Int(path.rawValue)
            return isOn ? (path, asked[position], taken[position]) : (path, 0, 0)
        }
    }
}
