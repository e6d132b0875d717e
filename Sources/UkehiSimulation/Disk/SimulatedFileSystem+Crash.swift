// What a power cut leaves of a simulated disk: any subset of what was not durable.

extension SimulatedFileSystem.Disk {
    /// The directory that a name is in, as `dirname` says it.
    static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// A name was made, moved or removed, for the process that did it.
    mutating func note(_ change: SimulatedFileSystem.NameChange) {
        pendingNames.append(change)
        switch change {
        case .bind(let path, _), .unbind(let path): unsyncedNames.insert(path)
        case .move(let source, let target, _):
            unsyncedNames.insert(source)
            unsyncedNames.insert(target)
        }
    }

    /// A directory was synced: the names in it, and those of directories in it, are durable.
    mutating func makeDurable(in directory: String) {
        for name in unsyncedNames where Self.parent(name) == directory {
            durableNames[name] = names[name]
        }
        unsyncedNames = unsyncedNames.filter { Self.parent($0) != directory }
        pendingNames.removeAll { change in
            switch change {
            case .bind(let path, _), .unbind(let path), .move(_, let path, _):
                Self.parent(path) == directory
            }
        }
        for name in directories where Self.parent(name) == directory {
            durableDirectories.insert(name)
        }
    }

    /// A directory whose name was not durable may be gone.
    func directoriesAfterCrash(_ random: inout SeededRandom) -> Set<String> {
        var left = durableDirectories
        for name in directories.subtracting(durableDirectories).sorted() {
            // One in a lost one is lost with it.
            let isRooted = directories.subtracting(left).allSatisfy { !name.hasPrefix($0 + "/") }
            if isRooted, Bool.random(using: &random) { left.insert(name) }
        }
        return left
    }

    func namesAfterCrash(_ random: inout SeededRandom) -> [String: Int] {
        var left = durableNames
        // Some crashes lose everything pending, some nothing, most of them something.
        let style = Int.random(in: 0..<4, using: &random)
        for change in pendingNames {
            guard style != 0, style == 1 || Bool.random(using: &random) else { continue }
            switch change {
            case .bind(let path, let id): left[path] = id
            case .move(let source, let target, let id):
                left[target] = id
                if left[source] == id { left[source] = nil }
            case .unbind(let path): left[path] = nil
            }
        }
        return left
    }
}

extension SimulatedFileSystem.Node {
    mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        let end = offset + bytes.count
        visible.grow(to: end)
        visible.overwrite(at: offset, with: bytes)
    }

    /// Makes one pending write durable, and with it the size that it needs.
    mutating func complete(_ id: Int) {
        guard let position = pending.firstIndex(where: { $0.id == id }),
            case .write(let offset, let bytes) = pending[position].change
        else { return }
        let end = offset + bytes.count
        durable.grow(to: end)
        bytes.withUnsafeBytes { durable.overwrite(at: offset, with: $0) }
        // Older pending writes to the same bytes can no longer come back.
        var kept: [SimulatedFileSystem.Pending] = []
        for (place, older) in pending.enumerated() where place != position {
            guard place < position, case .write(let start, let old) = older.change,
                start < end, start + old.count > offset
            else {
                kept.append(older)
                continue
            }
            if start < offset {
                kept.append(
                    .init(
                        id: older.id,
                        change: .write(offset: start, bytes: Array(old[..<(offset - start)]))))
            }
            if start + old.count > end {
                kept.append(
                    .init(
                        id: older.id,
                        change: .write(offset: end, bytes: Array(old[(end - start)...]))))
            }
        }
        pending = kept
    }

    func afterCrash(_ random: inout SeededRandom, tearBytes: Int) -> [UInt8] {
        guard !pending.isEmpty else { return durable }
        let style = Int.random(in: 0..<4, using: &random)
        if style == 0 { return durable }
        var size = durable.count
        var sizes = [size]
        for change in pending {
            switch change.change {
            case .write(let offset, let bytes): size = max(size, offset + bytes.count)
            case .size(let set): size = set
            }
            sizes.append(size)
        }
        let final = style == 1 ? size : (sizes.randomElement(using: &random) ?? size)
        var left = durable
        let reach = max(final, sizes.max() ?? final)
        left.grow(to: reach)
        for change in pending {
            guard case .write(let offset, let bytes) = change.change else { continue }
            var at = offset
            while at < offset + bytes.count {
                // Up to the next sector boundary.
                let end = min(
                    (at / tearBytes + 1) * tearBytes, offset + bytes.count)
                let count = end - at
                switch style == 1 ? 0 : Int.random(in: 0..<20, using: &random) {
                case 0..<10:
                    bytes.withUnsafeBytes {
                        left.overwrite(
                            at: at, with: .init(rebasing: $0[(at - offset)...].prefix(count)))
                    }
                case 10: random.bytes(count).withUnsafeBytes { left.overwrite(at: at, with: $0) }
                case 11:
                    [UInt8](repeating: 0, count: count).withUnsafeBytes {
                        left.overwrite(at: at, with: $0)
                    }
                default: break
                }
                at = end
            }
        }
        if left.count > final { left.removeSubrange(final...) }
        return left
    }
}
