// Hot path. An ordered map from byte strings to versioned values: an adaptive radix tree. Lookups
// touch one node per distinguishing byte and one leaf; nothing is hashed, sorted later or
// rebuilt, so that no operation has a bad moment. Keys may be prefixes of each other.

import UkehiBase

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The tree. Not thread-safe: its owner locks.
final class RadixTree {
    private let root: UnsafeMutablePointer<RadixRef>
    private var slab = Slab()
    /// Keys.
    private(set) var count = 0

    init() {
        root = .allocate(capacity: 1)
        root.initialize(to: .none)
    }

    deinit {
        removeAll()
        root.deallocate()
    }

    // MARK: Lookup

    /// The leaf of `key`.
    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer) -> Leaf? {
        var ref = root.pointee
        var depth = 0
        while !ref.isLeaf {
            if ref.isNone { return nil }
            let node = ref.node
            // Prefixes beyond the inline bytes are not compared here: the leaf's whole key is.
            let length = node.prefixLength
            if length > 0 {
                guard key.count - depth >= length else { return nil }
                let compared = min(length, RadixNode.inlinePrefix)
                guard memcmp(node.prefix, key.baseAddress.unsafelyUnwrapped + depth, compared) == 0
                else { return nil }
                depth += length
            }
            if depth == key.count {
                ref = node.terminal
                if ref.isNone { return nil }
            } else {
                guard let slot = node.slot(key[depth]) else { return nil }
                ref = slot.pointee
                depth += 1
            }
        }
        let leaf = ref.leaf
        return leaf.hasKey(key) ? leaf : nil
    }

    /// Some leaf below `ref`, which is not none: the least one.
    private func anyLeaf(_ ref: RadixRef) -> Leaf {
        var ref = ref
        while !ref.isLeaf {
            let node = ref.node
            if !node.terminal.isNone {
                ref = node.terminal
            } else if let (_, child, _) = node.child(from: 0) {
                ref = child
            } else {
                fatalError("a node of the tree has no children")
            }
        }
        return ref.leaf
    }

    /// The node's whole prefix, in memory that lives as long as the tree is not changed.
    @inline(__always)
    private func prefix(of node: RadixNode, depth: Int) -> UnsafeRawBufferPointer {
        let length = node.prefixLength
        let start =
            length <= RadixNode.inlinePrefix
            ? node.prefix : anyLeaf(RadixRef(node)).keyStart + depth
        return UnsafeRawBufferPointer(start: start, count: length)
    }

    /// How many bytes `a` and `b` share from their start.
    @inline(__always)
    private static func shared(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
        let limit = min(a.count, b.count)
        var at = 0
        while at < limit, a[at] == b[at] { at += 1 }
        return at
    }

    // MARK: Change

    /// Sets a key.
    func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) {
        var slot = root
        var depth = 0
        while true {
            let ref = slot.pointee
            if ref.isNone {
                slot.pointee = RadixRef(
                    Leaf(key: key, value: value, version: version, expiresAt: expiresAt, in: slab))
                count += 1
                return
            }
            if ref.isLeaf {
                let leaf = ref.leaf
                if leaf.hasKey(key) {
                    slot.pointee = RadixRef(
                        replace(leaf, key, value, version, expiresAt))
                    return
                }
                let rest = key.slice(depth, key.count - depth)
                let other = leaf.key.slice(depth, leaf.keyLength - depth)
                let node = RadixNode(.n4, in: slab)
                let common = RadixTree.shared(rest, other)
                node.setPrefix(rest.slice(0, common))
                let new = Leaf(
                    key: key, value: value, version: version, expiresAt: expiresAt, in: slab)
                RadixTree.attach(ref, other, common, to: node)
                RadixTree.attach(RadixRef(new), rest, common, to: node)
                slot.pointee = RadixRef(node)
                count += 1
                return
            }
            let node = ref.node
            if node.prefixLength > 0 {
                let whole = prefix(of: node, depth: depth)
                let rest = key.slice(depth, key.count - depth)
                let common = RadixTree.shared(rest, whole)
                if common < whole.count {
                    let parent = RadixNode(.n4, in: slab)
                    parent.setPrefix(whole.slice(0, common))
                    let byte = whole[common]
                    // Read what stays of the prefix before it is overwritten in place.
                    withUnsafeTemporaryAllocation(
                        byteCount: whole.count - common, alignment: 1
                    ) { kept in
                        kept.copyMemory(from: whole.slice(common, whole.count - common))
                        node.setPrefix(UnsafeRawBufferPointer(kept).slice(1, kept.count - 1))
                    }
                    parent.add(byte, ref)
                    let new = Leaf(
                        key: key, value: value, version: version, expiresAt: expiresAt, in: slab)
                    RadixTree.attach(RadixRef(new), rest, common, to: parent)
                    slot.pointee = RadixRef(parent)
                    count += 1
                    return
                }
                depth += whole.count
            }
            if depth == key.count {
                if node.terminal.isNone {
                    node.terminal = RadixRef(
                        Leaf(
                            key: key, value: value, version: version, expiresAt: expiresAt, in: slab
                        ))
                    count += 1
                } else {
                    node.terminal = RadixRef(
                        replace(node.terminal.leaf, key, value, version, expiresAt))
                }
                return
            }
            if let child = node.slot(key[depth]) {
                slot = child
                depth += 1
                continue
            }
            let new = Leaf(key: key, value: value, version: version, expiresAt: expiresAt, in: slab)
            if node.isFull {
                let larger = node.resized(to: node.largerKind, in: slab)
                larger.add(key[depth], RadixRef(new))
                slot.pointee = RadixRef(larger)
            } else {
                node.add(key[depth], RadixRef(new))
            }
            count += 1
            return
        }
    }

    /// Hangs a subtree whose keys go on with `rest` under a node that covers `common` bytes of it.
    private static func attach(
        _ ref: RadixRef, _ rest: UnsafeRawBufferPointer, _ common: Int, to node: RadixNode
    ) {
        if rest.count == common { node.terminal = ref } else { node.add(rest[common], ref) }
    }

    private func replace(
        _ leaf: Leaf, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        _ version: UInt64, _ expiresAt: UInt64
    ) -> Leaf {
        // Memory of a value that has shrunk to a small part is given back.
        if value.count <= leaf.room, leaf.room <= 256 || value.count >= leaf.room / 4 {
            leaf.overwrite(value, version: version, expiresAt: expiresAt)
            return leaf
        }
        let new = Leaf(key: key, value: value, version: version, expiresAt: expiresAt, in: slab)
        leaf.free(in: slab)
        return new
    }

    /// Removes a key; says whether it was there.
    @discardableResult
    func remove(_ key: UnsafeRawBufferPointer) -> Bool {
        var slot = root
        var parent: (slot: UnsafeMutablePointer<RadixRef>, node: RadixNode, byte: UInt8)?
        var depth = 0
        while true {
            let ref = slot.pointee
            if ref.isNone { return false }
            if ref.isLeaf {
                guard ref.leaf.hasKey(key) else { return false }
                ref.leaf.free(in: slab)
                count -= 1
                guard let parent else {
                    slot.pointee = .none
                    return true
                }
                parent.node.remove(parent.byte)
                tidy(parent.node, at: parent.slot)
                return true
            }
            let node = ref.node
            let length = node.prefixLength
            guard key.count - depth >= length else { return false }
            if length > 0 {
                let compared = min(length, RadixNode.inlinePrefix)
                guard memcmp(node.prefix, key.baseAddress.unsafelyUnwrapped + depth, compared) == 0
                else { return false }
                depth += length
            }
            if depth == key.count {
                guard !node.terminal.isNone, node.terminal.leaf.hasKey(key) else { return false }
                node.terminal.leaf.free(in: slab)
                node.terminal = .none
                count -= 1
                tidy(node, at: slot)
                return true
            }
            guard let child = node.slot(key[depth]) else { return false }
            parent = (slot, node, key[depth])
            slot = child
            depth += 1
        }
    }

    /// After a removal: a node with one reference left is replaced by it, a large one shrinks.
    private func tidy(_ node: RadixNode, at slot: UnsafeMutablePointer<RadixRef>) {
        if node.count == 0 {
            // A node had at least two references, so that its terminal is left.
            slot.pointee = node.terminal
            node.free(in: slab)
            return
        }
        if node.count == 1, node.terminal.isNone, let (byte, child, _) = node.child(from: 0) {
            if !child.isLeaf { RadixTree.prepend(node, byte, to: child.node) }
            slot.pointee = child
            node.free(in: slab)
            return
        }
        if let smaller = node.smallerKind {
            slot.pointee = RadixRef(node.resized(to: smaller, in: slab))
        }
    }

    /// Makes the child's prefix the node's prefix, the byte and its own.
    private static func prepend(_ node: RadixNode, _ byte: UInt8, to child: RadixNode) {
        let length = node.prefixLength
        let total = length + 1 + child.prefixLength
        let kept = RadixNode.inlinePrefix
        // Only inline bytes are stored, so that only they need to be right.
        withUnsafeTemporaryAllocation(byteCount: kept * 3, alignment: 1) { bytes in
            var at = min(length, kept)
            bytes.copyMemory(from: UnsafeRawBufferPointer(start: node.prefix, count: at))
            if at < kept {
                bytes[at] = byte
                at += 1
            }
            let own = min(child.prefixLength, kept)
            if at < kept {
                UnsafeMutableRawBufferPointer(rebasing: bytes[at...]).copyMemory(
                    from: UnsafeRawBufferPointer(start: child.prefix, count: own))
                at += own
            }
            child.setPrefix(
                UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(bytes)[..<min(at, kept, total)]))
        }
        child.prefixLength = total
    }

    /// Removes keys in `lower..<upper`, empty `upper`: to the end. Costs a step per key.
    func removeRange(_ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer) {
        // Removal invalidates cursors, so keys are taken in groups.
        var doomed: [Leaf] = []
        while true {
            doomed.removeAll(keepingCapacity: true)
            var cursor = RadixCursor(self, from: lower)
            while doomed.count < 256, let leaf = cursor.next() {
                guard upper.isEmpty || order(leaf.key, upper) < 0 else { break }
                doomed.append(leaf)
            }
            // Each leaf is freed by its own removal alone.
            for leaf in doomed { remove(leaf.key) }
            if doomed.count < 256 { return }
        }
    }

    /// Removes everything.
    func removeAll() {
        // Not recursive: keys may nest 4,096 deep.
        var pending = [root.pointee]
        root.pointee = .none
        count = 0
        while let ref = pending.popLast() {
            if ref.isNone { continue }
            if ref.isLeaf {
                ref.leaf.free(in: slab)
                continue
            }
            let node = ref.node
            pending.append(node.terminal)
            var position = 0
            while let (_, child, next) = node.child(from: position) {
                pending.append(child)
                position = next
            }
            node.free(in: slab)
        }
        slab = Slab()
    }

    // MARK: Order

    /// Puts a cursor before the first key at or past `lower`.
    fileprivate func seek(_ lower: UnsafeRawBufferPointer, _ cursor: inout RadixCursor) {
        var ref = root.pointee
        var depth = 0
        while true {
            if ref.isNone { return }
            if ref.isLeaf {
                if order(ref.leaf.key, lower) >= 0 { cursor.push(leaf: ref) }
                return
            }
            let node = ref.node
            let whole = prefix(of: node, depth: depth)
            let rest = lower.slice(depth, lower.count - depth)
            let common = RadixTree.shared(whole, rest)
            if common == rest.count || (common < whole.count && whole[common] > rest[common]) {
                // Every key below begins with all of `lower`, or is past it.
                cursor.push(node: node, isFresh: true, position: 0)
                return
            }
            if common < whole.count { return }  // Every key below is before `lower`.
            depth += whole.count
            let byte = lower[depth]
            cursor.push(node: node, isFresh: false, position: node.position(after: byte))
            guard let child = node.slot(byte) else { return }
            ref = child.pointee
            depth += 1
        }
    }
}

/// Walks a tree's leaves in key order. Any change of the tree invalidates it.
struct RadixCursor {
    private struct Frame {
        var ref: RadixRef
        /// Whether the node's terminal is still to come.
        var isFresh: Bool
        var position: Int
    }
    private var frames: [Frame] = []

    init(_ tree: RadixTree, from lower: UnsafeRawBufferPointer) {
        frames.reserveCapacity(16)
        tree.seek(lower, &self)
    }

    fileprivate mutating func push(node: RadixNode, isFresh: Bool, position: Int) {
        frames.append(Frame(ref: RadixRef(node), isFresh: isFresh, position: position))
    }
    fileprivate mutating func push(leaf: RadixRef) {
        frames.append(Frame(ref: leaf, isFresh: true, position: 0))
    }

    /// The next leaf.
    mutating func next() -> Leaf? {
        while let frame = frames.last {
            let top = frames.count - 1
            if frame.ref.isLeaf {
                frames.removeLast()
                return frame.ref.leaf
            }
            let node = frame.ref.node
            if frame.isFresh {
                frames[top].isFresh = false
                if !node.terminal.isNone { return node.terminal.leaf }
                continue
            }
            guard let (_, child, next) = node.child(from: frame.position) else {
                frames.removeLast()
                continue
            }
            frames[top].position = next
            if child.isLeaf { return child.leaf }
            push(node: child.node, isFresh: true, position: 0)
        }
        return nil
    }
}
