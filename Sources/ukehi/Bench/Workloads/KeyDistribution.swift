// Which key comes next: numbers drawn from a distribution over `0..<count`.
//
// Pure but for ``sequential``, whose counter all clients share: the numbers are handed out once each, to whoever
// comes first.

import Synchronization

/// A distribution over the numbers of keys.
enum KeyDistribution: Sendable {
    case uniform(count: UInt64)
    case zipf(ZipfDistribution)
    case hotRange(HotRangeDistribution)
    case sequential(SequentialKeys)

    init(_ kind: WorkloadKind, count: UInt64, hot: HotKeys) {
        switch kind {
        case .uniform: self = .uniform(count: count)
        case .zipf, .ycsbA, .ycsbB, .ycsbC, .ycsbF:
            self = .zipf(ZipfDistribution(count: count, exponent: ZipfDistribution.ycsbExponent))
        case .hotRange: self = .hotRange(HotRangeDistribution(count: count, hot))
        case .sequential: self = .sequential(SequentialKeys(count: count))
        }
    }

    /// The next number; nil: there is none any more.
    @inline(__always)
    func draw(_ random: inout BenchRandom) -> Int? {
        switch self {
        case .uniform(let count): Int(random.next(below: count))
        case .zipf(let zipf): Int(zipf.draw(&random))
        case .hotRange(let hot): Int(hot.draw(&random))
        case .sequential(let keys): keys.take()
        }
    }

    /// Whether no number is left.
    var isExhausted: Bool {
        if case .sequential(let keys) = self { keys.isExhausted } else { false }
    }
}

/// Most numbers rarely, a few of them often, all over the rest: one stretch gets a share of its own.
struct HotRangeDistribution: Sendable {
    let count: UInt64
    /// The stretch, in the middle; at least one number, and not all of them if there are two.
    let hot: Range<UInt64>
    /// Draws below it are hot.
    private let limit: Double

    init(count: UInt64, _ shares: HotKeys) {
        self.count = count
        let wanted = UInt64((Double(count) * shares.keys).rounded())
        let size = min(max(wanted, 1), max(count - 1, 1))
        let start = (count - size) / 2
        hot = start..<start + size
        limit = shares.operations
    }

    func draw(_ random: inout BenchRandom) -> UInt64 {
        let isHot = random.nextUnit() < limit
        let cold = count - UInt64(hot.count)
        if isHot || cold == 0 { return hot.lowerBound + random.next(below: UInt64(hot.count)) }
        let number = random.next(below: cold)
        return number < hot.lowerBound ? number : number + UInt64(hot.count)
    }
}

/// 0, 1, 2 … each of them once, over all clients of all nodes. Any thread.
final class SequentialKeys: Sendable {
    private let count: Int
    private let next = Atomic(0)

    init(count: UInt64) { self.count = Int(clamping: count) }

    func take() -> Int? {
        // Past the end it is not counted on: it would overflow some day.
        guard !isExhausted else { return nil }
        let number = next.wrappingAdd(1, ordering: .relaxed).oldValue
        return number < count ? number : nil
    }

    var isExhausted: Bool { next.load(ordering: .relaxed) >= count }
}
