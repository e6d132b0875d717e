// Hot path: a subtraction an operation; a key is copied now and then. Where in a region the load is.
//
//   cost ───────┬──────────┬────────┬───────────┬──▶     one key at every stride, and a little more or less
//               sample     sample   sample      sample
//
// An operation is drawn with a chance that grows with its cost, so that each sample stands for as much
// cost as any other (RULES 30). The stride follows the load: where more than a few dozen samples come in
// a second, every other one goes and the stride doubles. Samples are kept for some seconds, and count
// half as much with each.
//
// Chance is a hash of a counter: no source of randomness, and the same in two runs.

import UkehiBase

struct KeySamples {
    /// One operation, for the cost of many.
    struct Sample: Hashable {
        var key: Bytes
        /// What was read reaches up to here, empty: to the end of keys. Nil: the key alone.
        var end: Bytes?
        var isWrite: Bool
        /// The cost that it stands for.
        var weight: Double
        /// Seconds since it was taken.
        var age: UInt8 = 0
    }

    /// What an operation costs beside its bytes.
    static let operationCost = 1024
    /// Samples of one second, less one.
    static let mostPerSecond = 64
    /// Samples that a steady load gives in one.
    static let usualPerSecond = 48
    /// A sample that is so old goes.
    static let seconds: UInt8 = 4

    /// In the order in which they were taken.
    private(set) var samples: [Sample] = []
    /// Where those of this second begin.
    private var firstOfSecond = 0
    /// Cost between two samples, on average.
    private var stride: Int
    /// Least stride: regions that do little keep few keys.
    private let floor: Int
    /// Cost until the next sample.
    private var left: Int
    private var drawn: UInt64

    /// - Parameters:
    ///   - floor: Operations that one sample stands for at least.
    ///   - salt: Tells regions' draws apart.
    init(floor: Int, salt: UInt64) {
        self.floor = max(floor, 1) * Self.operationCost
        stride = self.floor
        drawn = salt << 32
        left = 0
        left = gap()
    }

    /// Counts an operation of so many bytes; whether it is to be taken as a sample.
    @inline(__always)
    mutating func isDue(bytes: Int) -> Bool {
        left &-= Self.operationCost &+ bytes
        return left < 0
    }

    /// Takes the operation that was due.
    mutating func take(_ key: Bytes, to end: Bytes? = nil, isWrite: Bool) {
        // All of its cost counts, however many strides it is.
        var crossed = -left / stride
        left += crossed * stride
        repeat {
            crossed += 1
            left += gap()
        } while left < 0
        // One that ends where it begins has read nothing but what is there.
        let span = end.flatMap { $0.isEmpty || $0 > key ? $0 : nil }
        samples.append(
            Sample(
                // A request's own bytes would hold all that came with it.
                key: key.withUnsafeBytes { Bytes(copying: $0) },
                end: span?.withUnsafeBytes { Bytes(copying: $0) }, isWrite: isWrite,
                weight: Double(crossed * stride)))
        if samples.count - firstOfSecond >= Self.mostPerSecond { thin() }
    }

    /// Half of this second's samples go; the others stand for them.
    private mutating func thin() {
        var kept = firstOfSecond
        for position in Swift.stride(from: firstOfSecond + 1, to: samples.count, by: 2) {
            samples[kept] = samples[position]
            samples[kept].weight *= 2
            kept += 1
        }
        samples.removeSubrange(kept...)
        stride *= 2
        left = gap()
    }

    /// A second has passed, in which operations of so much cost were counted.
    mutating func endSecond(operations: UInt64, bytes: UInt64) {
        if !samples.isEmpty {
            for position in samples.indices {
                samples[position].age += 1
                samples[position].weight /= 2
            }
            samples.removeAll { $0.age >= Self.seconds }
        }
        firstOfSecond = samples.count
        let cost = operations * UInt64(Self.operationCost) + bytes
        stride = max(floor, Int(clamping: cost) / Self.usualPerSecond)
        // What the last second left may be of a stride that was far longer.
        left = min(left, stride + stride / 2)
    }

    /// Between a half and one and a half strides (splitmix64 of a counter).
    private mutating func gap() -> Int {
        drawn &+= 1
        var hash = drawn &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
        hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
        hash ^= hash >> 31
        return stride / 2 + Int(hash % UInt64(stride))
    }

    var weight: Double { samples.reduce(0) { $0 + $1.weight } }

    /// Takes out the samples of keys in `range`.
    mutating func give(_ range: KeyRange) -> [Sample] {
        let given = samples.filter { range.contains($0.key) }
        samples.removeAll { range.contains($0.key) }
        firstOfSecond = samples.count
        return given
    }

    /// Begins with another region's.
    mutating func take(over samples: [Sample]) {
        self.samples = samples
        firstOfSecond = samples.count
    }
}
