// Who this directory is: the file `identity`, replaced atomically, never rewritten in place.
//
//   identity | magic "UKEHIID2" | stage u8 | incarnation u64 | node u64 | name (len u32, bytes) |
//            | cluster record (len u32, bytes; empty while fresh)
//            | forced u32 × (region u64, peer u64, generation u64) | crc32c u32 of all before |
//
// Format 1 had no forced peers; its record is of version 1.
//
// Stages: `fresh` (an incarnation, no cluster), `joining` (a record, its regions' births perhaps not
// yet in the log), `member` (the log holds every birth: from now on a missing log is a loss, not a
// beginning). Invariant: the stage only ever goes forward.

package import UkehiBase
package import UkehiEnvironment
import UkehiWAL

/// What a data directory knows of itself.
package struct Identity: Hashable, Sendable {
    /// How far the directory has come.
    package enum Stage: UInt8, Sendable, Hashable {
        case fresh = 0
        case joining = 1
        case member = 2
    }
    package var stage: Stage
    package var incarnation: Incarnation
    package var name: String
    /// Nil while fresh.
    package var node: NodeID?
    package var record: ClusterRecord?
    /// Peers that lead without those on dead nodes, until their regions have other members.
    package var forced: [ForcedPeer] = []

    package static func fresh(name: String, incarnation: Incarnation) -> Identity {
        Identity(stage: .fresh, incarnation: incarnation, name: name, node: nil, record: nil)
    }
}

/// A peer that a recovery chose to lead its region (RULES 74).
package struct ForcedPeer: Hashable, Sendable {
    package var region: RegionID
    package var peer: PeerID
    /// Of the recovery.
    package var generation: UInt64

    package init(region: RegionID, peer: PeerID, generation: UInt64) {
        self.region = region
        self.peer = peer
        self.generation = generation
    }
}

extension Identity {
    package static let fileName = "identity"
    private static let magic = "UKEHIID2"
    private static let firstMagic = "UKEHIID1"

    /// Reads the directory's identity; nil if there is none.
    package static func load(
        _ fileSystem: any FileSystem, directory: String
    ) throws(NodeError) -> Identity? {
        let path = directory + "/" + fileName
        guard fileSystem.exists(path) else { return nil }
        let bytes: Bytes
        do {
            let file = try fileSystem.open(path, .read)
            defer { file.close() }
            let size = try file.size()
            guard size <= UInt64(Limits.maxBootstrapBytes) else {
                throw NodeError(
                    code: .corrupted,
                    message: "The identity file \(path) has \(size) bytes, more than it can have. "
                        + "Restore it from a backup of this directory.")
            }
            let buffer = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(Int(size), 1), alignment: 16)
            defer { buffer.deallocate() }
            let count = try file.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(size)]), at: 0)
            bytes = Bytes(copying: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        } catch let error as FileError {
            throw NodeError(
                code: .ioFailed, message: "The identity file could not be read: \(error).")
        } catch let error as NodeError {
            throw error
        } catch {
            throw NodeError(code: .ioFailed, message: "\(error)")
        }
        do {
            return try decode(bytes)
        } catch {
            if let version = newerVersion(of: bytes) {
                throw NodeError(
                    code: .identity,
                    message:
                        "The identity file \(path) is of format \(version), this program reads "
                        + "formats 1 and 2. Nothing was changed. Start the version that wrote it.")
            }
            throw NodeError(
                code: .corrupted,
                message: "The identity file \(path) is damaged (\(error)). Nothing was changed. "
                    + "Restore the file from a backup, or remove this node and join it anew.")
        }
    }

    /// The format that an intact file of a later version names; nil for any other.
    private static func newerVersion(of bytes: Bytes) -> Int? {
        let prefix = Bytes(String(magic.dropLast()))
        guard bytes.count > 12, bytes[0..<prefix.count] == prefix,
            let version = Character(UnicodeScalar(bytes[prefix.count])).wholeNumberValue,
            version > 2
        else { return nil }
        var tail = ByteReader(bytes[bytes.count - 4..<bytes.count])
        let checksum = try? tail.read(UInt32.self)
        return checksum == CRC32C.checksum(bytes[0..<bytes.count - 4]) ? version : nil
    }

    static func decode(_ bytes: Bytes) throws(DecodeError) -> Identity {
        guard bytes.count > 12 else { throw DecodeError("too short", offset: bytes.count) }
        let body = bytes[0..<bytes.count - 4]
        var tail = ByteReader(bytes[bytes.count - 4..<bytes.count])
        guard try tail.read(UInt32.self) == CRC32C.checksum(body) else {
            throw DecodeError("checksum mismatch", offset: body.count)
        }
        var reader = ByteReader(body)
        let found = try reader.readBytes(8)
        guard found == Bytes(magic) || found == Bytes(firstMagic) else {
            throw DecodeError("not an identity file of format 1 or 2", offset: 0)
        }
        guard let stage = Stage(rawValue: try reader.read(UInt8.self)) else {
            throw reader.failure("unknown stage")
        }
        let incarnation = Incarnation(try reader.read(UInt64.self))
        let node = NodeID(try reader.read(UInt64.self))
        let name = String(decoding: try reader.readLengthPrefixed().array, as: UTF8.self)
        let recordBytes = try reader.readLengthPrefixed()
        let forced = found == Bytes(magic) ? try decodeForced(&reader) : []
        try reader.expectEnd()
        if stage == .fresh {
            return .fresh(name: name, incarnation: incarnation)
        }
        let record = try ClusterRecord.decode(recordBytes)
        guard record.node(node)?.incarnation == incarnation else {
            throw DecodeError("the cluster record does not list this node", offset: 0)
        }
        return Identity(
            stage: stage, incarnation: incarnation, name: name, node: node, record: record,
            forced: forced)
    }

    private static func decodeForced(
        _ reader: inout ByteReader
    ) throws(DecodeError) -> [ForcedPeer] {
        let count = Int(try reader.read(UInt32.self))
        guard count <= reader.remaining / 24 else {
            throw reader.failure("\(count) forced peers do not fit")
        }
        var forced: [ForcedPeer] = []
        for _ in 0..<count {
            let region = RegionID(try reader.read(UInt64.self))
            let peer = PeerID(try reader.read(UInt64.self))
            forced.append(
                ForcedPeer(region: region, peer: peer, generation: try reader.read(UInt64.self)))
        }
        return forced
    }

    func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(Bytes(Self.magic))
        writer.append(stage.rawValue)
        writer.append(incarnation.rawValue)
        writer.append((node ?? NodeID(0)).rawValue)
        writer.appendLengthPrefixed(Bytes(name))
        writer.appendLengthPrefixed(record?.encoded() ?? Bytes())
        writer.append(UInt32(forced.count))
        for peer in forced {
            writer.append(peer.region.rawValue)
            writer.append(peer.peer.rawValue)
            writer.append(peer.generation)
        }
        writer.append(writer.withUnsafeBytes { CRC32C.checksum($0) })
        return writer.take()
    }

    /// Makes the directory's own name durable: with it all that is in it would be lost.
    static func syncName(of directory: String, _ fileSystem: any FileSystem) throws(NodeError) {
        do {
            try fileSystem.syncDirectory(LogNames.parent(directory))
        } catch {
            // Who may not look into the parent did not make the directory in it just now.
            guard error.kind != .denied else { return }
            throw NodeError(error, directory: directory)
        }
    }

    /// Replaces the directory's identity; durable, name included, at return (RULES 1; a name is
    /// durable only once its directory is synced).
    package func store(
        _ fileSystem: any FileSystem, directory: String
    ) throws(NodeError) {
        let path = directory + "/" + Self.fileName
        let temporary = path + ".new"
        do {
            if fileSystem.exists(temporary) { try fileSystem.remove(temporary) }
            let file = try fileSystem.open(temporary, .createNew)
            defer { file.close() }
            let bytes = encoded()
            try bytes.withUnsafeBytes { (raw) throws(FileError) in try file.write(raw, at: 0) }
            try file.sync()
            try fileSystem.rename(temporary, to: path)
            try fileSystem.syncDirectory(directory)
        } catch {
            throw NodeError(
                code: error.kind == .noSpace ? .diskFull : .ioFailed,
                message: "The identity file could not be written: \(error). The node stops.")
        }
    }
}
