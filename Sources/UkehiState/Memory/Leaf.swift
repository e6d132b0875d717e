// Hot path. One key with its value, in one heap block.
//
//   leaf | version u64 | expires at u64 | key length u32 | value length u32 | room u32 | 0 u32 |
//        | key | value, in `room` bytes |
//
// A value that fits in the room is overwritten in place, so that steady overwriting allocates
// nothing.

import UkehiBase

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A pointer to a leaf. Safety: owned by exactly one tree; used only while the tree's owner holds
/// it.
struct Leaf {
    static let headerBytes = 32
    let base: UnsafeMutableRawPointer

    @inline(__always) var version: UInt64 { base.load(as: UInt64.self) }
    @inline(__always) var expiresAt: UInt64 { base.load(fromByteOffset: 8, as: UInt64.self) }
    @inline(__always) var keyLength: Int { Int(base.load(fromByteOffset: 16, as: UInt32.self)) }
    @inline(__always) var valueLength: Int { Int(base.load(fromByteOffset: 20, as: UInt32.self)) }
    @inline(__always) var room: Int { Int(base.load(fromByteOffset: 24, as: UInt32.self)) }

    @inline(__always) var keyStart: UnsafeMutableRawPointer { base + Leaf.headerBytes }
    @inline(__always) var key: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + Leaf.headerBytes, count: keyLength)
    }
    @inline(__always) var value: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + Leaf.headerBytes + keyLength, count: valueLength)
    }
    /// Bytes of the leaf's block.
    @inline(__always) var byteCount: Int { Leaf.headerBytes + keyLength + room }

    init(base: UnsafeMutableRawPointer) { self.base = base }

    init(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64, in slab: Slab
    ) {
        let needed = Leaf.headerBytes + key.count + value.count
        // What the allocator would round up to is room.
        let size = (needed + 15) & ~15
        base = slab.allocate(size)
        base.storeBytes(of: UInt32(key.count), toByteOffset: 16, as: UInt32.self)
        base.storeBytes(
            of: UInt32(size - Leaf.headerBytes - key.count), toByteOffset: 24, as: UInt32.self)
        base.storeBytes(of: 0, toByteOffset: 28, as: UInt32.self)
        if let start = key.baseAddress {
            keyStart.copyMemory(from: start, byteCount: key.count)
        }
        overwrite(value, version: version, expiresAt: expiresAt)
    }

    /// Replaces the value; it fits in the room.
    @inline(__always)
    func overwrite(_ value: UnsafeRawBufferPointer, version: UInt64, expiresAt: UInt64) {
        base.storeBytes(of: version, as: UInt64.self)
        base.storeBytes(of: expiresAt, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: UInt32(value.count), toByteOffset: 20, as: UInt32.self)
        if let start = value.baseAddress {
            (base + Leaf.headerBytes + keyLength).copyMemory(
                from: start, byteCount: value.count)
        }
    }

    @inline(__always)
    func hasKey(_ other: UnsafeRawBufferPointer) -> Bool {
        guard keyLength == other.count else { return false }
        guard let start = other.baseAddress, !other.isEmpty else { return true }
        return memcmp(keyStart, start, other.count) == 0
    }

    func free(in slab: Slab) { slab.free(base, byteCount) }
}
