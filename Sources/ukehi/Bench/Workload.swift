// What the clients read and write: keys, values and the mix, shared by all of them and immutable.

import UkehiBase
import UkehiNode

/// The load's keys and values, generated or from a file.
final class Workload: Sendable {
    /// Where keys and values come from.
    enum Source: Sendable {
        case generated(KeySpace, ValueGenerator)
        case input(InputFile)
    }

    let source: Source
    let mix: OperationMix
    /// How keys are drawn; nil: each client uses those that its node leads, all alike.
    let distribution: KeyDistribution?
    let readMode: ReadMode
    /// Distinct keys; numbers of keys are below it.
    let keyCount: Int
    /// Longest key and value, for buffers.
    let maxKeyBytes: Int
    let maxValueBytes: Int

    init(settings: BenchSettings, input: InputFile?) {
        mix = settings.mix
        distribution = settings.workload.map {
            KeyDistribution($0, count: UInt64(settings.keys), hot: settings.hotRange)
        }
        readMode = settings.readMode.mode
        if let input {
            source = .input(input)
            keyCount = input.keyCount
            maxKeyBytes = input.records.map(\.key.count).max() ?? 0
            maxValueBytes = input.records.map(\.value.count).max() ?? 0
        } else {
            source = .generated(
                KeySpace(
                    count: UInt64(settings.keys), keyBytes: settings.keyBytes,
                    order: settings.workload?.order ?? .scattered),
                ValueGenerator(valueBytes: settings.valueBytes))
            keyCount = settings.keys
            maxKeyBytes = settings.keyBytes
            maxValueBytes = settings.valueBytes
        }
    }

    /// A stamp is `client << 40 | sequence` for generated values, the record's position for an input.
    static func stamp(client: Int, sequence: UInt64) -> UInt64 {
        UInt64(client + 1) << 40 | (sequence & 0xFF_FFFF_FFFF)
    }

    /// Writes a key at `target`; returns its length. `record` is used for an input only.
    @inline(__always)
    func writeKey(_ number: Int, record: Int, to target: UnsafeMutableRawPointer) -> Int {
        switch source {
        case .generated(let keys, _):
            keys.write(UInt64(number), to: target)
            return keys.keyBytes
        case .input(let input):
            return input.records[record].key.copy(to: target)
        }
    }

    /// Writes the value of a stamp at `target`; returns its length.
    @inline(__always)
    func writeValue(_ stamp: UInt64, to target: UnsafeMutableRawPointer) -> Int {
        switch source {
        case .generated(_, let values):
            values.write(stamp, to: target)
            return values.valueBytes
        case .input(let input):
            return input.records[Int(stamp)].value.copy(to: target)
        }
    }

    /// The value of a stamp.
    func value(_ stamp: UInt64) -> Bytes {
        switch source {
        case .generated(_, let values): values.value(stamp)
        case .input(let input): input.records[Int(stamp)].value
        }
    }

    /// All keys, by number.
    func allKeys() -> [Bytes] {
        switch source {
        case .generated(let keys, _):
            return (0..<keys.count).map { keys.key($0) }
        case .input(let input):
            var keys = [Bytes](repeating: Bytes(), count: input.keyCount)
            for record in input.records { keys[record.keyNumber] = record.key }
            return keys
        }
    }

    /// Key `number` of a generated load; for an input `keys` of ``allKeys()`` is quicker.
    func generatedKey(_ number: Int) -> Bytes? {
        if case .generated(let keys, _) = source { keys.key(UInt64(number)) } else { nil }
    }

    /// How an error message names a key: never by the key itself.
    func name(ofKey number: Int) -> String {
        if case .generated = source { return "key number \(number)" }
        return "the \(number + 1)th distinct key of the input"
    }
}

extension Bytes {
    /// Copies all bytes to `target`; returns how many.
    func copy(to target: UnsafeMutableRawPointer) -> Int {
        withUnsafeBytes { bytes in
            if let base = bytes.baseAddress {
                target.copyMemory(from: base, byteCount: bytes.count)
            }
            return bytes.count
        }
    }
}
