// Disks that fail, fill up and change what they hold.

import UkehiBase
import UkehiEnvironment
import UkehiWAL

extension FaultInjector {
    /// Whether a fault of this kind makes an operation of that kind fail.
    private static func hits(_ fault: FaultKind, _ operation: SimulatedOperation.Kind) -> Bool {
        switch (fault, operation) {
        case (.failedSync, .sync), (.failedSync, .writeDurably), (.failedSync, .syncDirectory): true
        case (.failedRead, .read), (.failedRead, .open), (.failedRead, .list): true
        case (.fullAtWrite, .create), (.fullAtWrite, .write), (.fullAtWrite, .allocate): true
        case (.failedWrite, .read), (.failedWrite, .open), (.failedWrite, .list): false
        case (.failedWrite, _): true
        default: false
        }
    }

    /// One operation fails, soon; then the disk works again.
    func failOperation(_ fault: Fault, _ node: SimulatedNode) {
        let kind = fault.kind
        // Reads are rare but while a node starts.
        if kind == .failedRead {
            node.kill()
            restart(node, after: fault.duration % 100_000_000)
        }
        let disk = node.disk
        let left = Guarded(Int(fault.seed % 12))
        disk.setHook { [weak disk] operation throws(FileError) in
            guard Self.hits(kind, operation.kind) else { return }
            let isIt = left.withLock { left in
                left -= 1
                return left < 0
            }
            guard isIt else { return }
            disk?.setHook(nil)
            throw FileError(
                kind: kind == .fullAtWrite ? .noSpace : .ioFailed, operation: "\(operation.kind)",
                path: operation.path, errno: kind == .fullAtWrite ? 28 : 5)
        }
        end(fault) { disk.setHook(nil) }
    }

    /// Nothing new fits until the fault is over but what is given back; what is reserved can be written.
    func fillDisk(_ fault: Fault, _ node: SimulatedNode) {
        node.disk.setVolume(byteCount: node.disk.usedBytes)
        // What a power cut leaves is another disk, and as full.
        end(fault) { node.disk.setVolume(byteCount: nil) }
    }

    // MARK: Rot

    /// A sector changes, and the node has to notice: at once, if it is taken down, or when it reads.
    ///
    /// What no readable frame claims as durable is left alone: there a changed sector and a torn write
    /// look the same, whoever reads (docs/FORMATS.md).
    func corrupt(_ fault: Fault, _ node: SimulatedNode) {
        guard corruptible.contains(node.number), !node.isLost else { return }
        var random = SeededRandom(seed: fault.seed)
        let goesDown = random.oneIn(2)
        if goesDown { node.cutPower() }
        let wal = ((try? node.disk.list("data/wal")) ?? []).filter { $0.hasSuffix(".wal") }
            .map { "data/wal/" + $0 }
        let others =
            fault.kind == .rot && random.oneIn(6) ? ["data/wal/mark", "data/identity"] : []
        if let path = (others.isEmpty ? wal : others).randomElement(using: &random) {
            let isMisdirected =
                fault.kind == .misdirection || fault.kind == .rot && random.oneIn(2)
            change(path, others: wal, isMisdirected: isMisdirected, node, &random)
        }
        if goesDown { restart(node, after: fault.duration) }
    }

    private func change(
        _ path: String, others: [String], isMisdirected: Bool, _ node: SimulatedNode,
        _ random: inout SeededRandom
    ) {
        guard let bytes = node.disk.contents(path), !bytes.isEmpty else { return }
        let claimed = path.hasSuffix(".wal") ? claimed(of: path, node) : nil
        let reach = min(claimed.map { Int($0.end) } ?? bytes.count, bytes.count)
        guard reach > 0 else { return }
        var sector = Int.random(in: 0...(reach - 1) / 512, using: &random) * 512
        // Often where it hurts most: the head of one of the last frames that must not be lost.
        if random.oneIn(3), let head = claimed?.heads.suffix(4).randomElement(using: &random) {
            sector = Int(head)
        }
        let count = min(512, bytes.count - sector)
        var changed = Array(bytes[sector..<sector + count])
        if isMisdirected, let other = others.randomElement(using: &random),
            let source = node.disk.contents(other), source.count >= 512
        {
            // Another sector's bytes, of this file or another one.
            let from = Int.random(in: 0..<source.count / 512, using: &random) * 512
            changed = Array(source[from..<from + count])
        } else if random.oneIn(4) {
            changed = random.oneIn(2) ? random.bytes(count) : Array(repeating: 0, count: count)
        } else {
            // A frame's head is at the front of a sector.
            let within = random.oneIn(2) ? count : min(count, 64)
            changed[Int.random(in: 0..<within, using: &random)] ^=
                1 << UInt8.random(in: 0..<8, using: &random)
        }
        node.disk.damage(path, at: sector, with: changed)
    }

    /// Bytes of up to four entries change, of those that some readable frame claims as durable.
    func rotEntries(_ fault: Fault, _ node: SimulatedNode) {
        guard corruptible.contains(node.number), !node.isLost else { return }
        var random = SeededRandom(seed: fault.seed)
        let goesDown = random.oneIn(2)
        if goesDown { node.cutPower() }
        var entries: [WALInspector.EntryInfo] = []
        var claimed: UInt64 = 0
        try? WALInspector(fileSystem: node.disk.copy(), directory: "data/wal").dump { record in
            switch record {
            // A segment with a successor was durable to its end.
            case .segment(let segment): claimed = max(claimed, segment.predecessorLastLSN)
            case .frame(let frame): claimed = max(claimed, frame.durableLSN)
            case .entry(let entry): entries.append(entry)
            }
            return true
        }
        entries.removeAll { $0.lsn > claimed }
        for _ in 0..<random.next() % 4 + 1 {
            guard let entry = entries.randomElement(using: &random) else { break }
            let path = String(entry.position.segment, radix: 16)
            let name =
                "data/wal/" + String(repeating: "0", count: 16 - path.count) + path + ".wal"
            // Of a compressed one at least so much is there.
            let reach = random.oneIn(2) ? 12 : 16 + entry.bytes
            let at = Int(entry.position.offset) + Int.random(in: 0..<reach, using: &random)
            guard let bytes = node.disk.contents(name), at < bytes.count else { continue }
            node.disk.damage(
                name, at: at, with: [bytes[at] ^ 1 << UInt8.random(in: 0..<8, using: &random)])
        }
        if goesDown { restart(node, after: fault.duration) }
    }

    private struct Claimed {
        var end: UInt64
        /// Where the frames begin, ascending.
        var heads: [UInt64]
    }

    /// What is claimed as durable in the newest segment; nil for another one, where that is everything. Nothing
    /// where a log that is damaged already cannot be read so far: what is claimed there is not known.
    private func claimed(of path: String, _ node: SimulatedNode) -> Claimed? {
        let names = ((try? node.disk.list("data/wal")) ?? []).filter { $0.hasSuffix(".wal") }
        guard let last = names.max(), path.hasSuffix(last) else { return nil }
        var newest: WALInspector.SegmentInfo?
        var frames: [WALInspector.FrameInfo] = []
        try? WALInspector(fileSystem: node.disk, directory: "data/wal").dump { record in
            switch record {
            case .segment(let segment):
                newest = segment
                frames = []
            case .frame(let frame): frames.append(frame)
            case .entry: break
            }
            return true
        }
        guard let newest, newest.fileName == last else { return Claimed(end: 0, heads: []) }
        let claimed = frames.map(\.durableLSN).max() ?? 0
        let safe = frames.filter { $0.lsn <= claimed }
        // The segment's header, of two blocks, is durable before anything is acknowledged.
        return Claimed(
            end: safe.last.map { $0.offset + UInt64($0.bytes) } ?? 8192, heads: safe.map(\.offset))
    }
}
