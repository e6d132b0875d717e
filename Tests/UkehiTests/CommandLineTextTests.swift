import Testing
import Ukehi

@testable import UkehiCommand

@Suite("Command line: text")
struct CommandLineTextTests {
    @Test("printable text stands for itself")
    func printable() {
        for text in ["", "plain", "user/7/name", "naïve 名前 🙂", "a b"] {
            #expect(escaped(Bytes(text)) == text)
            #expect(unescaped(text) == Bytes(text))
        }
    }

    @Test("control codes, broken UTF-8 and invisible scalars are escaped")
    func controls() {
        #expect(escaped([0x1b, 0x5b, 0x33]) == "\\x1b[3")
        #expect(escaped([0x00, 0xff]) == "\\x00\\xff")
        #expect(escaped([0xc3]) == "\\xc3")
        #expect(escaped(Bytes("a\u{202e}b")) == "a\\xe2\\x80\\xaeb")
        #expect(escaped(Bytes("back\\slash")) == "back\\\\slash")
        #expect(escaped(Bytes("line\n")) == "line\\x0a")
    }

    @Test("any bytes come back from their text")
    func inverse() {
        for first in UInt8.min...UInt8.max {
            for second: UInt8 in [0, 0x41, 0x5c, 0x78, 0x80, 0xbf, 0xe2, 0xff] {
                let bytes: Bytes = [first, second, first]
                #expect(unescaped(escaped(bytes)) == bytes)
            }
        }
    }

    @Test(
        "a backslash that begins no escape is refused", arguments: ["\\", "a\\q", "\\x1", "\\xg0"])
    func malformed(text: String) { #expect(unescaped(text) == nil) }

    @Test("columns align")
    func table() {
        var table = TextTable([("name", .left), ("bytes", .right)])
        table.append(["a", "1024"])
        table.append(["longer", "7"])
        #expect(table.lines == ["name    bytes", "a        1024", "longer      7"])
    }
}
