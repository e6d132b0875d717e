// Fingerprints of states, the same for worlds that differ only in which peer is called what.
//
// A world is a multiset of parts: three peers, the messages on their way, what is known of the past,
// what may still happen. Each part has six fingerprints, one for each way of naming three peers; a
// world's fingerprint under one naming is the sum of its parts', and its own the least of the six.
// Two lanes of 64 bits: among 10^9 states two that differ share a fingerprint with probability 10^-21.

import UkehiBase

/// 128 bits that stand for a value.
struct Fingerprint: Hashable {
    var low: UInt64
    var high: UInt64

    static let zero = Fingerprint(low: 0, high: 0)

    /// The fingerprint of both parts, in any order.
    static func &+ (a: Fingerprint, b: Fingerprint) -> Fingerprint {
        Fingerprint(low: a.low &+ b.low, high: a.high &+ b.high)
    }

    /// Takes a part away again.
    static func &- (a: Fingerprint, b: Fingerprint) -> Fingerprint {
        Fingerprint(low: a.low &- b.low, high: a.high &- b.high)
    }

    static func < (a: Fingerprint, b: Fingerprint) -> Bool {
        a.high != b.high ? a.high < b.high : a.low < b.low
    }
}

/// Makes a fingerprint of words, in order.
struct Fingerprinter {
    private var low: UInt64
    private var high: UInt64

    /// `kind` keeps parts of different kinds apart.
    init(kind: UInt64) {
        low = Self.mix(kind &+ 0x9e37_79b9_7f4a_7c15)
        high = Self.mix(kind ^ 0xc2b2_ae3d_27d4_eb4f)
    }

    mutating func add(_ word: UInt64) {
        low = Self.mix(low ^ word) &+ 0x9e37_79b9_7f4a_7c15
        high = Self.mix(high &+ word &* 0xff51_afd7_ed55_8ccd) ^ 0xc2b2_ae3d_27d4_eb4f
    }

    var value: Fingerprint { Fingerprint(low: Self.mix(low), high: Self.mix(high ^ low)) }

    private static func mix(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// One way of naming the three peers.
struct Naming {
    /// The name of the peer in each slot, 1 to 3.
    let names: [UInt64]
    /// The peers in the order of their names.
    let order: [PeerID]

    /// All there are; the first one changes nothing.
    static let all: [Naming] = [
        Naming([1, 2, 3]), Naming([1, 3, 2]), Naming([2, 1, 3]), Naming([2, 3, 1]),
        Naming([3, 1, 2]), Naming([3, 2, 1]),
    ]

    private init(_ names: [UInt64]) {
        self.names = names
        order = (1...3).map { name in PeerID(UInt64((names.firstIndex(of: name) ?? 0) + 1)) }
    }

    /// Zero for nobody.
    func name(_ peer: PeerID) -> UInt64 {
        (1...3).contains(peer.rawValue) ? names[Int(peer.rawValue) - 1] : 0
    }
}

/// A growing set of fingerprints, in one block: nothing else of a state is kept for good.
final class FingerprintSet {
    private var slots: UnsafeMutablePointer<Fingerprint>
    private var mask: Int
    private(set) var count = 0

    init() {
        mask = (1 << 12) - 1
        slots = .allocate(capacity: mask + 1)
        slots.initialize(repeating: .zero, count: mask + 1)
    }

    deinit { slots.deallocate() }

    /// Whether it was not there. A fingerprint of zero is taken for another one.
    func insert(_ value: Fingerprint) -> Bool {
        let value = value == .zero ? Fingerprint(low: 1, high: 0) : value
        if (count + 1) * 4 > (mask + 1) * 3 { grow() }
        var place = Int(truncatingIfNeeded: value.low) & mask
        while slots[place] != .zero {
            if slots[place] == value { return false }
            place = (place + 1) & mask
        }
        slots[place] = value
        count += 1
        return true
    }

    private func grow() {
        let old = slots
        let oldCount = mask + 1
        mask = oldCount * 2 - 1
        slots = .allocate(capacity: mask + 1)
        slots.initialize(repeating: .zero, count: mask + 1)
        for value in UnsafeBufferPointer(start: old, count: oldCount) where value != .zero {
            var place = Int(truncatingIfNeeded: value.low) & mask
            while slots[place] != .zero { place = (place + 1) & mask }
            slots[place] = value
        }
        old.deallocate()
    }
}

/// From pairs of small numbers to a number, in one block.
final class PairTable {
    private struct Slot {
        var key: UInt64
        var value: UInt32
    }
    private var slots: UnsafeMutablePointer<Slot>
    private var mask: Int
    private(set) var count = 0

    init() {
        mask = (1 << 12) - 1
        slots = .allocate(capacity: mask + 1)
        slots.initialize(repeating: Slot(key: .max, value: 0), count: mask + 1)
    }

    deinit { slots.deallocate() }

    private func place(of key: UInt64) -> Int {
        var place = Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 24) & mask
        while slots[place].key != key, slots[place].key != .max { place = (place + 1) & mask }
        return place
    }

    subscript(a: UInt32, b: UInt32) -> UInt32? {
        get {
            let key = UInt64(a) << 32 | UInt64(b)
            let slot = slots[place(of: key)]
            return slot.key == key ? slot.value : nil
        }
        set {
            guard let newValue else { return }
            if (count + 1) * 4 > (mask + 1) * 3 { grow() }
            let key = UInt64(a) << 32 | UInt64(b)
            let place = place(of: key)
            if slots[place].key == .max { count += 1 }
            slots[place] = Slot(key: key, value: newValue)
        }
    }

    private func grow() {
        let old = slots
        let oldCount = mask + 1
        mask = oldCount * 2 - 1
        slots = .allocate(capacity: mask + 1)
        slots.initialize(repeating: Slot(key: .max, value: 0), count: mask + 1)
        for slot in UnsafeBufferPointer(start: old, count: oldCount) where slot.key != .max {
            slots[place(of: slot.key)] = slot
        }
        old.deallocate()
    }
}
