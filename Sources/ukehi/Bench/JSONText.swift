// JSON as the benchmark prints it: objects whose fields keep their order.

/// A JSON value; `text` prints it on one line.
indirect enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([(String, JSONValue)])

    static func == (a: JSONValue, b: JSONValue) -> Bool { a.text == b.text }

    /// On one line, without spaces.
    var text: String {
        var out = ""
        write(to: &out)
        return out
    }

    private func write(to out: inout String) {
        switch self {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .int(let value): out += String(value)
        case .number(let value): out += JSONValue.format(value)
        case .string(let value): JSONValue.quote(value.utf8, to: &out)
        case .array(let values):
            out += "["
            for (position, value) in values.enumerated() {
                if position > 0 { out += "," }
                value.write(to: &out)
            }
            out += "]"
        case .object(let fields):
            out += "{"
            for (position, field) in fields.enumerated() {
                if position > 0 { out += "," }
                JSONValue.quote(field.0.utf8, to: &out)
                out += ":"
                field.1.write(to: &out)
            }
            out += "}"
        }
    }

    /// Three decimals at most; JSON knows neither infinity nor not-a-number.
    private static func format(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "null" }
        let thousandths = Int((value * 1000).rounded())
        if thousandths % 1000 == 0 { return String(thousandths / 1000) }
        let sign = thousandths < 0 ? "-" : ""
        let size = thousandths.magnitude
        var fraction = String(size % 1000)
        fraction = String(repeating: "0", count: 3 - fraction.count) + fraction
        while fraction.last == "0" { fraction.removeLast() }
        return "\(sign)\(size / 1000).\(fraction)"
    }

    private static func quote(_ text: some Sequence<UInt8>, to out: inout String) {
        var bytes: [UInt8] = []
        appendQuoted(text) { bytes.append($0) }
        out += String(decoding: bytes, as: UTF8.self)
    }

    private static let hexDigits = Array("0123456789abcdef".utf8)

    /// Emits a JSON string of UTF-8 text.
    static func appendQuoted(_ text: some Sequence<UInt8>, _ emit: (UInt8) -> Void) {
        emit(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                emit(UInt8(ascii: "\\"))
                emit(byte)
            case 0..<0x20:
                for character in "\\u00".utf8 { emit(character) }
                emit(hexDigits[Int(byte >> 4)])
                emit(hexDigits[Int(byte & 15)])
            default: emit(byte)
            }
        }
        emit(UInt8(ascii: "\""))
    }
}
