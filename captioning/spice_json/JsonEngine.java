// The least that SPICE needs of a JavaScript engine, for Java 15 and later, which have none.
//
// SPICE 1.0 computes every score, then asks javax.script for "JavaScript" only to indent its JSON result
// (SpiceScorer.java, scoreBatch). Java removed that engine in version 15, so the run ends in a
// NullPointerException after all the work. This engine hands the JSON back as it came.
//
// Remake json-engine.jar:  javac --release 8 JsonEngine.java && python -m zipfile -c json-engine.jar JsonEngine.class META-INF
import java.io.Reader;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import javax.script.AbstractScriptEngine;
import javax.script.Bindings;
import javax.script.ScriptContext;
import javax.script.ScriptEngine;
import javax.script.ScriptEngineFactory;
import javax.script.SimpleBindings;

public class JsonEngine extends AbstractScriptEngine implements ScriptEngineFactory {
    @Override
    public Object eval(String script, ScriptContext context) {
        put("result", get("jsonString"));
        return null;
    }

    @Override
    public Object eval(Reader reader, ScriptContext context) {
        return eval("", context);
    }

    @Override
    public Bindings createBindings() {
        return new SimpleBindings();
    }

    @Override
    public ScriptEngineFactory getFactory() {
        return this;
    }

    @Override
    public ScriptEngine getScriptEngine() {
        return new JsonEngine();
    }

    @Override
    public List<String> getNames() {
        return Arrays.asList("JavaScript");
    }

    @Override
    public String getEngineName() {
        return "JsonEngine";
    }

    @Override
    public String getEngineVersion() {
        return "1";
    }

    @Override
    public List<String> getExtensions() {
        return Collections.emptyList();
    }

    @Override
    public List<String> getMimeTypes() {
        return Collections.emptyList();
    }

    @Override
    public String getLanguageName() {
        return "JSON";
    }

    @Override
    public String getLanguageVersion() {
        return "1";
    }

    @Override
    public Object getParameter(String key) {
        return null;
    }

    @Override
    public String getMethodCallSyntax(String object, String method, String... arguments) {
        return "";
    }

    @Override
    public String getOutputStatement(String text) {
        return "";
    }

    @Override
    public String getProgram(String... statements) {
        return "";
    }
}
