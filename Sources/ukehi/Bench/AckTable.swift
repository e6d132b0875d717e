// What the clients were told, key by key: the last acknowledged write of each key.
//
//   key number -> | version of the acknowledged write | stamp of its value |     16 B per key
//
// Acknowledgements of one key may overtake each other, versions do not: the one with the highest
// version is the last. Each lane of clients has a table of its own, so that none needs a lock; they
// are merged when the load has ended. Untouched pages cost no memory.

import Glibc
import UkehiBase

/// The last acknowledged write per key.
final class AckTable: @unchecked Sendable {
    // Safety: used by one thread at a time: its lane's while the load runs, then the verifier's.

    /// One key's last acknowledged write.
    struct Slot: Equatable {
        /// Its version; 0: never acknowledged.
        var version: UInt64 = 0
        /// Of its value; ``AckTable/deleted`` when the write was a delete.
        var stamp: UInt64 = 0
    }

    /// The stamp of a delete. No client makes it.
    static let deleted = UInt64.max

    /// How many keys.
    let count: Int
    private let slots: UnsafeMutablePointer<Slot>

    init(count: Int) {
        self.count = count
        // Zeros from the kernel, page by page as they are touched.
        guard let memory = calloc(max(count, 1), MemoryLayout<Slot>.stride) else {
            fatalError("no memory for the last writes of \(count) keys")
        }
        slots = memory.bindMemory(to: Slot.self, capacity: max(count, 1))
    }

    deinit { free(slots) }

    /// Notes an acknowledged write.
    @inline(__always)
    func acknowledge(key: Int, version: UInt64, stamp: UInt64) {
        if version >= slots[key].version { slots[key] = Slot(version: version, stamp: stamp) }
    }

    subscript(key: Int) -> Slot { slots[key] }

    /// Takes over the later of both for each key.
    func merge(_ other: AckTable) {
        invariant(other.count == count, "tables of \(other.count) and \(count) keys")
        for key in 0..<count where other.slots[key].version > slots[key].version {
            slots[key] = other.slots[key]
        }
    }
}

/// Writes whose outcome the client never learned: each may be the last of its key, or absent.
struct UnknownWrites: Sendable {
    private var stamps: [Int: [UInt64]] = [:]
    private(set) var count = 0

    mutating func note(key: Int, stamp: UInt64) {
        stamps[key, default: []].append(stamp)
        count += 1
    }

    func contains(key: Int, stamp: UInt64) -> Bool { stamps[key]?.contains(stamp) ?? false }
    func touches(key: Int) -> Bool { stamps[key] != nil }
    func candidates(key: Int) -> [UInt64] { stamps[key] ?? [] }

    mutating func merge(_ other: UnknownWrites) {
        for (key, stamps) in other.stamps { self.stamps[key, default: []] += stamps }
        count += other.count
    }
}
