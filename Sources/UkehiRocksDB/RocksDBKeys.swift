// Keys and values as RocksDB holds them (the layout is in UkehiState's StateStore.swift).

import UkehiBase
import UkehiState

enum StoreLayout {
    static let formatKey = Bytes([0x00] + Array("format".utf8))
    static let formatVersion: UInt8 = 1
    static let regionPrefix: UInt8 = 0x01
    static let expiryBit: UInt64 = 1 << 63

    /// The key of a region's state: big-endian, so that regions are in the order of their ids.
    static func regionKey<R>(_ region: RegionID, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        withUnsafeTemporaryAllocation(byteCount: 9, alignment: 1) { key in
            key[0] = regionPrefix
            key.storeBytes(
                of: region.rawValue.bigEndian, toByteOffset: 1, as: UInt64.self)
            return body(UnsafeRawBufferPointer(key))
        }
    }

    static let descriptorPart: UInt8 = 0x01
    static let gravePart: UInt8 = 0x02

    /// The key of something else that is kept of a region: right behind that of its state.
    static func regionKey<R>(
        _ region: RegionID, part: UInt8, _ body: (UnsafeRawBufferPointer) -> R
    ) -> R {
        withUnsafeTemporaryAllocation(byteCount: 10, alignment: 1) { key in
            key[0] = regionPrefix
            key.storeBytes(
                of: region.rawValue.bigEndian, toByteOffset: 1, as: UInt64.self)
            key[9] = part
            return body(UnsafeRawBufferPointer(key))
        }
    }

    /// Takes a stored value apart; nil if it is too short to be one.
    @inline(__always)
    static func split(
        _ stored: UnsafeRawBufferPointer
    ) -> (version: UInt64, expiresAt: UInt64, value: UnsafeRawBufferPointer)? {
        guard stored.count >= 8 else { return nil }
        let field = UInt64(
            littleEndian: stored.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        guard field & expiryBit != 0 else {
            return (field, 0, UnsafeRawBufferPointer(rebasing: stored[8...]))
        }
        guard stored.count >= 16 else { return nil }
        let expiresAt = UInt64(
            littleEndian: stored.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        return (field & ~expiryBit, expiresAt, UnsafeRawBufferPointer(rebasing: stored[16...]))
    }
}

/// Reusable memory in which a prefix and a key, or a version and a value, are put side by side.
struct Scratch: ~Copyable {
    private var base: UnsafeMutableRawPointer
    private var capacity: Int

    init() {
        capacity = 8 << 10
        base = .allocate(byteCount: capacity, alignment: 16)
    }
    deinit { base.deallocate() }

    private mutating func reserve(_ byteCount: Int) {
        guard byteCount > capacity else { return }
        base.deallocate()
        capacity = byteCount * 2
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    /// The prefix of the space and the key.
    mutating func key(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer {
        reserve(key.count + 1)
        base.storeBytes(of: space.rawValue, as: UInt8.self)
        if let start = key.baseAddress { (base + 1).copyMemory(from: start, byteCount: key.count) }
        return UnsafeRawBufferPointer(start: base, count: key.count + 1)
    }

    /// The upper end of a range: the key, or the next space's start.
    mutating func end(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer {
        guard key.isEmpty else { return self.key(space, key) }
        base.storeBytes(of: space.rawValue + 1, as: UInt8.self)
        return UnsafeRawBufferPointer(start: base, count: 1)
    }

    /// Version, expiry and value.
    mutating func value(
        _ value: UnsafeRawBufferPointer, version: UInt64, expiresAt: UInt64
    ) -> UnsafeRawBufferPointer {
        reserve(value.count + 16)
        var offset = 8
        if expiresAt == 0 {
            base.storeBytes(of: version.littleEndian, as: UInt64.self)
        } else {
            base.storeBytes(
                of: (version | StoreLayout.expiryBit).littleEndian, as: UInt64.self)
            base.storeBytes(of: expiresAt.littleEndian, toByteOffset: 8, as: UInt64.self)
            offset = 16
        }
        if let start = value.baseAddress {
            (base + offset).copyMemory(from: start, byteCount: value.count)
        }
        return UnsafeRawBufferPointer(start: base, count: offset + value.count)
    }
}

extension UnsafeRawBufferPointer {
    /// As the C interface takes bytes; never nil, which it would not accept even for no bytes.
    var characters: UnsafePointer<CChar> {
        (baseAddress ?? UnsafeRawPointer(StoreLayout.nothing)).assumingMemoryBound(to: CChar.self)
    }
}

extension StoreLayout {
    // Safety: one byte that lives as long as the process and is never read or written.
    nonisolated(unsafe) static let nothing = UnsafeMutableRawPointer.allocate(
        byteCount: 1, alignment: 1)
}
