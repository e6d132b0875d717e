// Hot path. A running 128-bit digest: two lanes of 64-bit multiply and fold, 32 bytes a step,
// several GB/s.
//
// For comparing replicas and finding decay. Not cryptographic: who can choose the bytes can make
// two states of one digest. What is mixed is a sequence of strings: their boundaries count.

package import UkehiBase

/// Digest of a sequence of byte strings and integers.
package struct StateDigest: Hashable, Sendable {
    package private(set) var high: UInt64
    package private(set) var low: UInt64

    private static let k0: UInt64 = 0xa076_1d64_78bd_642f
    private static let k1: UInt64 = 0xe703_7ed1_a0b4_28db
    private static let k2: UInt64 = 0x8ebc_6af0_9c88_c6e3
    private static let k3: UInt64 = 0x5899_65cc_7537_4cc3

    /// The digest of nothing.
    package init() {
        high = Self.k2
        low = Self.k3
    }

    /// Goes on from an earlier digest.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }

    /// Adds two integers.
    @inline(__always)
    package mutating func mix(_ a: UInt64, _ b: UInt64) {
        let x = Self.fold(high ^ a ^ Self.k0, b ^ Self.k1)
        let y = Self.fold(low ^ b ^ Self.k2, a ^ Self.k3)
        // Each lane takes from the other, and the sum keeps what a product of zero would lose.
        high = x &+ (y &<< 1) &+ a
        low = y ^ (x >> 7) &+ b
    }

    /// Adds a string; its length counts.
    package mutating func mix(_ bytes: UnsafeRawBufferPointer) {
        var a = high
        var b = low
        var at = 0
        let end = bytes.count
        while end - at >= 32 {
            let w0 = bytes.u64(at: at)
            let w1 = bytes.u64(at: at + 8)
            let w2 = bytes.u64(at: at + 16)
            let w3 = bytes.u64(at: at + 24)
            a = Self.fold(a ^ w0 ^ Self.k0, w1 ^ Self.k1) &+ w0
            b = Self.fold(b ^ w2 ^ Self.k2, w3 ^ Self.k3) &+ w2
            at += 32
        }
        high = a
        low = b
        while end - at >= 8 {
            mix(bytes.u64(at: at), UInt64(at))
            at += 8
        }
        var last: UInt64 = 0
        var shift: UInt64 = 0
        while at < end {
            last |= UInt64(bytes[at]) << shift
            shift += 8
            at += 1
        }
        mix(last, UInt64(end) | 1 << 63)
    }

    /// Adds a string; its length counts.
    package mutating func mix(_ bytes: Bytes) { bytes.withUnsafeBytes { mix($0) } }
}

// MARK: Of a region

extension StateDigest {
    /// The digest of a region without sessions and pairs; those it has are added in their order, sessions
    /// first.
    init(_ state: RegionState) {
        self.init()
        mix(state.revision, state.loggedTime)
        mix(state.epoch.confVersion, state.epoch.version)
        if state.hasSessions { mix(state.horizon, UInt64(state.sessions)) }
    }

    /// Adds a session, by its name and as it is stored.
    mutating func mixSession(_ session: UInt64, _ value: UnsafeRawBufferPointer) {
        mix(session, UInt64(value.count))
        mix(value)
    }

    /// Adds a session as a store has it.
    mutating func mixSession(_ entry: StoredEntry) {
        mixSession(SessionKey.session(entry.key) ?? 0, entry.value)
    }

    /// Adds a pair.
    mutating func mix(_ entry: StoredEntry) {
        mix(entry.key)
        mix(entry.value)
        mix(entry.version, entry.expiresAt)
    }
}
