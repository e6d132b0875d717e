// Randomness and time that a seed decides.

import Synchronization
package import UkehiEnvironment

/// SplitMix64: small, good enough for choosing, the same on every machine.
package struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// True once in `count` times.
    package mutating func oneIn(_ count: Int) -> Bool {
        Int.random(in: 0..<count, using: &self) == 0
    }

    /// `count` random bytes.
    package mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { target in
            var at = 0
            while at < count {
                withUnsafeBytes(of: next()) { source in
                    let step = min(8, count - at)
                    UnsafeMutableRawBufferPointer(rebasing: target[at..<at + step])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<step]))
                }
                at += 8
            }
        }
        return bytes
    }
}

/// A ``RandomSource`` from a seed.
package final class SeededRandomSource: RandomSource {
    private let random: Mutex<SeededRandom>

    package init(seed: UInt64) { random = Mutex(SeededRandom(seed: seed)) }

    package func next() -> UInt64 { random.withLock { $0.next() } }
}

/// A clock that moves when it is told to.
package final class ManualClock: NodeClock {
    private let nanoseconds = Mutex<UInt64>(0)

    package init() {}

    package func now() -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.withLock { $0 }) }
    package func wallNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }
    package func advance(byNanoseconds step: UInt64) { nanoseconds.withLock { $0 += step } }
}
