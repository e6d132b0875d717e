// Hot path. The inner nodes of the radix tree: four sizes, chosen by the number of children.
//
//   node | kind u8 | 0 u8 | count u16 | prefix length u32 | first 16 B of the prefix | terminal |
//   4    | 4 bytes, ascending, padded to 8 | 4 references |
//   16   | 16 bytes, ascending             | 16 references |
//   48   | 256 positions u8, 0: none, else 1 + position | 48 references |
//   256  | 256 references |
//
// A reference is 0 (none), the address of a node, or the address of a leaf with its lowest bit set.
// The prefix is what all keys below share behind the byte that led here; beyond 16 bytes it is read
// from any leaf below. `terminal` is the leaf whose key ends where the prefix ends.
// See Leis, Kemper, Neumann, "The Adaptive Radix Tree" (ICDE 2013).

import UkehiBase

/// A reference to a leaf, a node or nothing.
struct RadixRef {
    var bits: UInt

    static let none = RadixRef(bits: 0)
    @inline(__always) init(bits: UInt) { self.bits = bits }
    @inline(__always) init(_ leaf: Leaf) { bits = UInt(bitPattern: leaf.base) | 1 }
    @inline(__always) init(_ node: RadixNode) { bits = UInt(bitPattern: node.base) }

    @inline(__always) var isNone: Bool { bits == 0 }
    @inline(__always) var isLeaf: Bool { bits & 1 != 0 }
    /// Safety: the reference is a leaf's.
    @inline(__always) var leaf: Leaf {
        Leaf(base: UnsafeMutableRawPointer(bitPattern: bits & ~1).unsafelyUnwrapped)
    }
    /// Safety: the reference is a node's.
    @inline(__always) var node: RadixNode {
        RadixNode(base: UnsafeMutableRawPointer(bitPattern: bits).unsafelyUnwrapped)
    }
}

/// A pointer to an inner node. Safety: as for ``Leaf``.
struct RadixNode {
    enum Kind: UInt8 {
        case n4 = 0
        case n16 = 1
        case n48 = 2
        case n256 = 3
    }
    static let inlinePrefix = 16
    private static let bodyAt = 32
    let base: UnsafeMutableRawPointer

    @inline(__always) init(base: UnsafeMutableRawPointer) { self.base = base }

    init(_ kind: Kind, in slab: Slab) {
        let size = RadixNode.byteCount(kind)
        base = slab.allocate(size)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        base.storeBytes(of: kind.rawValue, as: UInt8.self)
    }

    static func byteCount(_ kind: Kind) -> Int {
        switch kind {
        case .n4: bodyAt + 8 + 4 * 8
        case .n16: bodyAt + 16 + 16 * 8
        case .n48: bodyAt + 256 + 48 * 8
        case .n256: bodyAt + 256 * 8
        }
    }

    @inline(__always) var kind: Kind {
        // Safety: only written by `init`, from a kind.
        unsafeBitCast(base.load(as: UInt8.self), to: Kind.self)
    }
    /// Children, the terminal not counted.
    @inline(__always) var count: Int {
        get { Int(base.load(fromByteOffset: 2, as: UInt16.self)) }
        nonmutating set { base.storeBytes(of: UInt16(newValue), toByteOffset: 2, as: UInt16.self) }
    }
    @inline(__always) var prefixLength: Int {
        get { Int(base.load(fromByteOffset: 4, as: UInt32.self)) }
        nonmutating set { base.storeBytes(of: UInt32(newValue), toByteOffset: 4, as: UInt32.self) }
    }
    @inline(__always) var prefix: UnsafeMutableRawPointer { base + 8 }
    @inline(__always) var terminal: RadixRef {
        get { RadixRef(bits: base.load(fromByteOffset: 24, as: UInt.self)) }
        nonmutating set { base.storeBytes(of: newValue.bits, toByteOffset: 24, as: UInt.self) }
    }
    @inline(__always) private var bytes: UnsafeMutablePointer<UInt8> {
        (base + RadixNode.bodyAt).assumingMemoryBound(to: UInt8.self)
    }
    @inline(__always) private var children: UnsafeMutablePointer<RadixRef> {
        let offset: Int
        switch kind {
        case .n4: offset = 8
        case .n16: offset = 16
        case .n48: offset = 256
        case .n256: offset = 0
        }
        return (base + RadixNode.bodyAt + offset).assumingMemoryBound(to: RadixRef.self)
    }

    /// Stores up to 16 bytes of `bytes` and the length of all of it.
    func setPrefix(_ bytes: UnsafeRawBufferPointer) {
        prefixLength = bytes.count
        if let start = bytes.baseAddress, !bytes.isEmpty {
            prefix.copyMemory(
                from: start, byteCount: min(bytes.count, RadixNode.inlinePrefix))
        }
    }

    // MARK: Children

    /// Position of the lowest byte of `word` that equals `byte`, 8 if none.
    @inline(__always)
    private static func find(_ byte: UInt8, in word: UInt64) -> Int {
        let difference = word ^ (0x0101_0101_0101_0101 &* UInt64(byte))
        let zeros =
            (difference &- 0x0101_0101_0101_0101) & ~difference & 0x8080_8080_8080_8080
        return zeros.trailingZeroBitCount >> 3
    }

    /// Where the reference to the child for `byte` is; nil if there is none.
    @inline(__always)
    func slot(_ byte: UInt8) -> UnsafeMutablePointer<RadixRef>? {
        let body = base + RadixNode.bodyAt
        switch kind {
        case .n4:
            let position = RadixNode.find(byte, in: body.load(as: UInt64.self))
            guard position < count else { return nil }
            return (body + 8).assumingMemoryBound(to: RadixRef.self) + position
        case .n16:
            var position = RadixNode.find(byte, in: body.load(as: UInt64.self))
            if position == 8 {
                position += RadixNode.find(byte, in: body.load(fromByteOffset: 8, as: UInt64.self))
            }
            guard position < count else { return nil }
            return (body + 16).assumingMemoryBound(to: RadixRef.self) + position
        case .n48:
            let position = Int(bytes[Int(byte)])
            guard position != 0 else { return nil }
            return (body + 256).assumingMemoryBound(to: RadixRef.self) + (position - 1)
        case .n256:
            let slot = body.assumingMemoryBound(to: RadixRef.self) + Int(byte)
            return slot.pointee.isNone ? nil : slot
        }
    }

    /// Whether another child has room.
    var isFull: Bool {
        switch kind {
        case .n4: count == 4
        case .n16: count == 16
        case .n48: count == 48
        case .n256: false
        }
    }

    /// Adds a child; there is room and none for `byte`.
    func add(_ byte: UInt8, _ child: RadixRef) {
        switch kind {
        case .n4, .n16:
            var position = count
            while position > 0, bytes[position - 1] > byte {
                bytes[position] = bytes[position - 1]
                children[position] = children[position - 1]
                position -= 1
            }
            bytes[position] = byte
            children[position] = child
        case .n48:
            var position = 0
            while !children[position].isNone { position += 1 }
            bytes[Int(byte)] = UInt8(position + 1)
            children[position] = child
        case .n256:
            children[Int(byte)] = child
        }
        count += 1
    }

    /// Removes the child for `byte`, which there is; does not free it.
    func remove(_ byte: UInt8) {
        switch kind {
        case .n4, .n16:
            var position = 0
            while bytes[position] != byte { position += 1 }
            while position + 1 < count {
                bytes[position] = bytes[position + 1]
                children[position] = children[position + 1]
                position += 1
            }
            bytes[position] = 0
            children[position] = .none
        case .n48:
            children[Int(bytes[Int(byte)]) - 1] = .none
            bytes[Int(byte)] = 0
        case .n256:
            children[Int(byte)] = .none
        }
        count -= 1
    }

    /// The kind the node should shrink to, if it has become too large for its children.
    var smallerKind: Kind? {
        switch kind {
        case .n4: nil
        case .n16: count <= 3 ? .n4 : nil
        case .n48: count <= 12 ? .n16 : nil
        case .n256: count <= 36 ? .n48 : nil
        }
    }

    var largerKind: Kind {
        switch kind {
        case .n4: .n16
        case .n16: .n48
        case .n48, .n256: .n256
        }
    }

    /// A node of another kind with the same prefix, terminal and children; this one is freed.
    func resized(to kind: Kind, in slab: Slab) -> RadixNode {
        let other = RadixNode(kind, in: slab)
        other.prefixLength = prefixLength
        other.prefix.copyMemory(from: prefix, byteCount: RadixNode.inlinePrefix)
        other.terminal = terminal
        var position = 0
        while let (byte, child, next) = child(from: position) {
            other.add(byte, child)
            position = next
        }
        free(in: slab)
        return other
    }

    /// The first child at or after `position` in ascending order of bytes, and where to go on.
    func child(from position: Int) -> (byte: UInt8, child: RadixRef, next: Int)? {
        switch kind {
        case .n4, .n16:
            guard position < count else { return nil }
            return (bytes[position], children[position], position + 1)
        case .n48:
            var byte = position
            while byte < 256 {
                let at = Int(bytes[byte])
                if at != 0 { return (UInt8(byte), children[at - 1], byte + 1) }
                byte += 1
            }
            return nil
        case .n256:
            var byte = position
            while byte < 256 {
                if !children[byte].isNone { return (UInt8(byte), children[byte], byte + 1) }
                byte += 1
            }
            return nil
        }
    }

    /// The position, as ``child(from:)`` takes it, behind every child whose byte is at most `byte`.
    func position(after byte: UInt8) -> Int {
        switch kind {
        case .n4, .n16:
            var position = 0
            while position < count, bytes[position] <= byte { position += 1 }
            return position
        case .n48, .n256: return Int(byte) + 1
        }
    }

    func free(in slab: Slab) { slab.free(base, RadixNode.byteCount(kind)) }
}
