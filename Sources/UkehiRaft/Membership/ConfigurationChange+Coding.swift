// The bytes of a configuration change inside an entry.
//
//   change | version u8 = 1 | transition u8 | steps u16 | step … | context, the rest |
//   step   | kind u8 | peer u64 |
//
// Little-endian. No bytes at all are the change that leaves a joint configuration: an empty entry
// can't be refused for its size. Entries of kind `confChange` hold exactly one step and no
// transition. Changing anything here changes the log format (docs/FORMATS.md).

public import UkehiBase

extension ConfigurationChange {
    private static let formatVersion: UInt8 = 1
    /// Steps in one change, at most.
    public static let maxSteps = 256

    /// Whether the change can be written as an entry of kind `confChange`.
    public var isSingleStep: Bool { steps.count == 1 && transition == .automatic }

    /// The change's bytes.
    public func encoded() -> Bytes {
        if leavesJoint, context.isEmpty { return Bytes() }
        var writer = ByteWriter(chunkCapacity: 4 + 9 * steps.count + context.count)
        writer.append(Self.formatVersion)
        writer.append(transition.rawValue)
        writer.append(UInt16(clamping: steps.count))
        for step in steps {
            writer.append(step.kind.rawValue)
            writer.append(step.peer.rawValue)
        }
        writer.append(context)
        return writer.take()
    }

    /// Reads the change in an entry of kind `confChange` or `confChangeV2`.
    public static func decode(_ entry: Entry) throws(DecodeError) -> ConfigurationChange {
        let change = try decode(entry.data)
        if entry.kind == .normal {
            throw DecodeError("an entry of commands holds no configuration change", offset: 0)
        }
        if entry.kind == .confChange, !change.isSingleStep {
            throw DecodeError("a single-step change has \(change.steps.count) steps", offset: 2)
        }
        return change
    }

    static func decode(_ bytes: Bytes) throws(DecodeError) -> ConfigurationChange {
        if bytes.isEmpty { return .leaveJoint }
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == formatVersion else {
            throw DecodeError("unknown version \(version) of a configuration change", offset: 0)
        }
        let rawTransition = try reader.read(UInt8.self)
        guard let transition = Transition(rawValue: rawTransition) else {
            throw DecodeError("unknown transition \(rawTransition)", offset: 1)
        }
        let count = Int(try reader.read(UInt16.self))
        guard count <= maxSteps else {
            throw DecodeError("\(count) steps, \(maxSteps) are allowed", offset: 2)
        }
        var steps: [Step] = []
        for _ in 0..<count {
            let rawKind = try reader.read(UInt8.self)
            guard let kind = Step.Kind(rawValue: rawKind) else {
                throw reader.failure("unknown kind \(rawKind) of a configuration step")
            }
            let peer = PeerID(try reader.read(UInt64.self))
            guard !peer.isLocalTarget else { throw reader.failure("a peer with a reserved id") }
            steps.append(Step(kind, peer))
        }
        return ConfigurationChange(steps, transition: transition, context: reader.readRest())
    }
}
